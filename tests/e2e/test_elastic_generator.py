"""A generator that leaves a run that goes on: real sockets and a real role, around an engine without a model."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.config.loading import load
from actors.config.model import TinyModel
from actors.config.network import NetworkConfig
from actors.deadline import until
from actors.models import prepare
from actors.replay.board import Board
from actors.replay.buffer import Buffer
from actors.replay.limits import Reason, ReplayLimits
from actors.replay.service import ReplayService
from actors.roles.generator import Session
from actors.roles.role import Presence, RoleContext, Storage
from actors.transport.address import resolve
from actors.transport.client import Client
from tests.unit.actors.replay.buffer_world import Sums

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
NODE = resolve(NetworkConfig(), in_cluster=False)


class World:
    """A replay, and a generator in a thread of its own."""

    def __init__(self, model: Path, folder: Path, *changes: str) -> None:
        self.buffer = Buffer(ReplayLimits(max_staleness=0, groups_per_batch=4), 2, Sums())
        self.service = ReplayService(self.buffer, Board(20.0), NODE, 2**20)
        self.service.start()
        recipe = load(
            ROOT / "recipes" / "quickstart.yaml",
            ["generators.engine=synthetic", "cold_start=null", "membership.heartbeat_seconds=0.2", *changes],
        )
        self.session = Session(
            RoleContext(recipe, "generator-1", Storage(folder, model), self.service.address), Presence(NODE, "")
        )
        self.ended: list[Exception | None] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._client = Client(self.service.address, "controller", "controller")

    def _run(self) -> None:
        try:
            asyncio.run(self.session.run())
        except Exception as error:
            self.ended.append(error)
            raise
        self.ended.append(None)

    def works(self) -> None:
        """Give the engine weights, and wait until it works on everything that there is."""
        assert until(lambda: self.session.working is not None, 60)
        assert self.session.working is not None
        self.session.working.engine.version = 0
        assert until(lambda: self.counts()["in_flight"] == 4, 60), self.counts()

    def counts(self) -> Any:
        return self._client.request("status").body["groups"]

    def members(self) -> list[str]:
        return [member["name"] for member in self._client.request("members").body["members"]]

    def close(self) -> None:
        self.session.stopping = True
        self._thread.join(60)
        self._client.close()
        self.service.stop()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(TinyModel(kind="tiny", hidden_size=32, layers=1, heads=1), tmp_path_factory.mktemp("models"), 0)


@pytest.fixture
def worlds(model: Path, tmp_path: Path) -> Iterator[Any]:
    made: list[World] = []

    def make(*changes: str) -> World:
        made.append(World(model, tmp_path, *changes))
        return made[-1]

    yield make
    for world in made:
        world.close()


def test_what_cannot_be_finished_is_handed_in_and_continued(worlds: Any) -> None:
    """Completions of minutes, and a second in which to leave."""
    world = worlds(
        "generators.synthetic={mean_tokens: 2000, sigma: 0, tokens_per_second: 20}",
        "generators.sampling.max_tokens=4000",
        "tasks.max_prompt_tokens=16",
        "generators.vllm.max_model_len=null",
        "generators.drain_seconds=4",
    )
    world.works()
    jobs = [held.job for held in world.session.working._held.values()]
    assert until(lambda: all(min(job.lengths()) > 0 for job in jobs), 60)
    world.session.leaving = True
    assert until(lambda: bool(world.ended), 60)
    assert world.ended == [None], "it died instead of leaving"
    assert "generator-1" not in world.members()
    assert world.counts()["dropped"] == {str(Reason.RETURNED): 4}
    another = Client(world.service.address, "generator-2", "generator")
    reply = another.request("lease", {"version": 0, "capacity": 4})
    assert len(reply.body["tasks"]) == 4
    for position in range(4):
        assert (reply.arrays[f"{position}.lengths"] > 0).all()
        assert reply.arrays[f"{position}.tokens"].size == reply.arrays[f"{position}.lengths"].sum()
    another.close()


def test_what_can_be_finished_is_and_nothing_new_is_begun(worlds: Any) -> None:
    world = worlds(
        "generators.synthetic={mean_tokens: 30, sigma: 0, tokens_per_second: 20}", "generators.drain_seconds=60"
    )
    world.works()
    world.session.leaving = True
    assert until(lambda: bool(world.ended), 60)
    assert world.ended == [None]
    counts = world.counts()
    assert (counts["issued"], counts["dropped"], counts["in_flight"]) == (4, {}, 4), "in flight: to be verified"
    assert world.buffer.ledger.counts()["generated"] == 4


_ACTOR = """
import os, signal, sys, threading
from actors import process

signal.pthread_sigmask(signal.SIG_BLOCK, process.SIGNALS)
drained = threading.Event()
process.outlive_signals(drained.set)
process.take_signals()
(forked, told), (end, ended) = os.pipe(), os.pipe()
if child := os.fork():
    os.read(forked, 1)
    os.kill(child, signal.SIGTERM)
    os.write(ended, b"1")
    os.waitpid(child, 0)
    print(drained.wait(0.2))  # nothing must happen
    os.kill(os.getpid(), signal.SIGINT)
    print(drained.wait(0.2), flush=True)
    print(drained.wait(60))
else:
    os.write(told, b"1")
    os.read(end, 1)  # by then it has got the signal
    os._exit(0)
"""


def test_sigterm_alone_lets_a_process_leave_and_not_that_of_a_child() -> None:
    actor = subprocess.Popen([sys.executable, "-c", _ACTOR], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert actor.stdout is not None
    assert [actor.stdout.readline().strip() for _ in range(2)] == ["False", "False"]
    os.kill(actor.pid, signal.SIGTERM)
    assert (actor.stdout.read().strip(), actor.wait(60)) == ("True", 0)


_GENERATOR = """
import sys, threading
from pathlib import Path
from actors.config.loading import load
from actors.control.starter import actor_class
from actors.deadline import until
from actors.roles.role import RoleContext, Storage

recipe, folder, model, replay, *changes = sys.argv[1:]
storage = Storage(Path(folder), Path(model))
actor = actor_class("generator")(RoleContext(load(Path(recipe), changes), "generator-1", storage, replay))
threading.Thread(target=actor.run, daemon=True).start()
session = actor._role._session
assert until(lambda: session.working is not None, 60)
session.working.engine.version = 0
threading.Event().wait(120)  # Ray keeps the process of an actor whose work is done until a controller ends it
"""


def test_a_node_that_is_drained_while_there_is_no_controller_gives_everything_back(model: Path, tmp_path: Path) -> None:
    """The actor's process, as Ray starts it, gets SIGTERM. It needs the replay alone, and then ends by itself."""
    service = ReplayService(
        Buffer(ReplayLimits(max_staleness=0, groups_per_batch=4), 2, Sums()), Board(20.0), NODE, 2**20
    )
    service.start()
    client = Client(service.address, "generator-2", "generator")

    def counts() -> Any:
        return client.request("status").body["groups"]

    changes = [
        "generators.engine=synthetic",
        "cold_start=null",
        "membership.heartbeat_seconds=0.2",
        "generators.synthetic={mean_tokens: 2000, sigma: 0, tokens_per_second: 20}",
        "generators.sampling.max_tokens=4000",
        "tasks.max_prompt_tokens=16",
        "generators.vllm.max_model_len=null",
        "generators.drain_seconds=4",
        "controller.orphan_seconds=5",
        "controller.stop_seconds=1",
    ]
    recipe = str(ROOT / "recipes" / "quickstart.yaml")
    arguments = [recipe, str(tmp_path), str(model), service.address, *changes]
    actor = subprocess.Popen([sys.executable, "-c", _GENERATOR, *arguments], cwd=ROOT)
    try:
        assert until(lambda: counts()["in_flight"] == 4, 60)
        os.kill(actor.pid, signal.SIGTERM)
        assert until(lambda: counts()["dropped"] == {str(Reason.RETURNED): 4}, 60)
        reply = client.request("lease", {"version": 0, "capacity": 4})
        assert all((reply.arrays[f"{n}.lengths"] > 0).all() for n in range(4)), "what was sampled is continued"
        assert actor.wait(60) == 1, "nobody is there to end it"
        assert "generator-1" not in [member["name"] for member in client.request("members").body["members"]]
    finally:
        actor.kill()
        actor.wait(10)
        client.close()
        service.stop()
