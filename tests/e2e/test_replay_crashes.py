"""A real replay is killed in the middle of its work, again and again, and nobody notices but by waiting."""

import hashlib
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from actors.errors import PeerTimeoutError
from actors.replay.journal import Journal
from actors.transport.client import Client
from actors.transport.codec import Array, Message
from tests.unit.actors.replay.buffer_world import payload

pytestmark = pytest.mark.e2e

QUICKSTART = Path(__file__).parents[2] / "recipes" / "quickstart.yaml"
STEPS, GROUPS, KILLS = 60, 4, 3
PROGRAM = """
import sys
from pathlib import Path
from actors.config.loading import load
from actors.roles.role import RoleContext, Storage, build
recipe, folder, *overrides = sys.argv[1:]
build("replay", RoleContext(load(Path(recipe), overrides), "replay", Storage(Path(folder)))).run()
"""


#: The same, but it is killed once its journal has a lease, before the answer leaves.
DIES = (
    """
import os, signal
from actors.replay.service import ReplayService
transmit = ReplayService._transmit
def dies(self, identity, message):
    if "tasks" in message.body or "groups" in message.body:
        os.kill(os.getpid(), signal.SIGKILL)
    transmit(self, identity, message)
ReplayService._transmit = dies
"""
    + PROGRAM
)


class Replay:
    """The replay in a process of its own, at an address that stays the same."""

    def __init__(self, folder: Path, program: str = PROGRAM, lease_seconds: float = 1.5) -> None:
        with closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{port}"
        overrides = [
            f"network.ports.replay={port}",
            f"replay.groups_per_batch={GROUPS}",
            "replay.group_size=2",
            "replay.max_staleness=2",
            f"replay.lease_seconds={lease_seconds}",
            f"replay.verify_lease_seconds={lease_seconds}",
            "verifiers.deadline_seconds=1",
            "replay.generation_attempts=1000",
            "replay.verify_attempts=1000",
            "replay.journal.keep=all",
        ]
        self._arguments = [str(QUICKSTART), str(folder), *overrides]
        self.start(program)

    def start(self, program: str = PROGRAM) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", program, *self._arguments])

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def crash(self) -> None:
        """A moment later, so that it is in the middle of something."""
        time.sleep(0.05)
        self.kill()
        self.start()

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(10)


@pytest.fixture
def replay(tmp_path: Path) -> Iterator[Replay]:
    started = Replay(tmp_path)
    yield started
    started.stop()


class Worker:
    """A client that asks until it is answered, within a minute."""

    def __init__(self, address: str, name: str, role: str) -> None:
        self._client = Client(address, name, role)
        self.stopping = threading.Event()

    def ask(self, kind: str, body: Mapping[str, Any], arrays: Mapping[str, Array] | None = None) -> Message:
        end = time.monotonic() + 60
        while not self.stopping.is_set() and time.monotonic() < end:
            try:
                return self._client.request(kind, body, arrays, deadline_seconds=1.0)
            except PeerTimeoutError:
                continue
        return Message("reply", 0)


def generate(worker: Worker) -> None:
    """Lease tasks and submit groups whose tokens nobody else has."""
    while not worker.stopping.is_set():
        for task in worker.ask("lease", {"version": STEPS, "capacity": 3}).body.get("tasks", ()):
            group = payload(STEPS)
            group.tokens[:] = [random.randrange(1000) for _ in group.tokens]
            body = {"purpose": "train", "group_id": task["group_id"], "prompt": "p", "texts": ["a", "b"]}
            worker.ask("group_arrived", body, group.arrays())
        time.sleep(0.001)


def verify(worker: Worker) -> None:
    while not worker.stopping.is_set():
        for group in worker.ask("lease_verification", {"capacity": 4}).body.get("groups", ()):
            scores = [{"status": "ok", "reward": reward} for reward in (1.0, 0.0)]
            body = {"purpose": "train", "group_id": group["group_id"], "scores": scores}
            worker.ask("verdict", body)
        time.sleep(0.001)


def digest(batch: Message) -> str:
    found = hashlib.sha256(repr([group["group_id"] for group in batch.body["groups"]]).encode())
    for name in sorted(batch.arrays):
        found.update(name.encode() + batch.arrays[name].tobytes())
    return found.hexdigest()


def test_a_replay_that_is_killed_loses_no_group_and_delivers_the_same_batches(replay: Replay, tmp_path: Path) -> None:
    workers: list[tuple[Callable[[Worker], None], Worker]] = [
        *((generate, Worker(replay.address, f"generator-{n}", "generator")) for n in (1, 2)),
        *((verify, Worker(replay.address, f"verifier-{n}", "verifier")) for n in (1, 2)),
    ]
    threads = [threading.Thread(target=work, args=(worker,), daemon=True) for work, worker in workers]
    for thread in threads:
        thread.start()
    learner, controller = (
        Worker(replay.address, "learner", "learner"),
        Worker(replay.address, "controller", "controller"),
    )
    kills = sorted(random.Random(7).sample(range(5, STEPS - 5), KILLS))
    killed: list[threading.Thread] = []
    delivered: list[str] = []
    events: list[Mapping[str, Any]] = []
    seen, uncommitted = 0, 0

    def taken(version: int) -> str:
        end = time.monotonic() + 60
        while not (batch := learner.ask("take_batch", {"version": version})).body:
            assert time.monotonic() < end
            time.sleep(0.01)
        return digest(batch)

    for version in range(STEPS):
        if version in kills:
            killed.append(threading.Thread(target=replay.crash))
            killed[-1].start()
        delivered.append(taken(version))
        statistics = {"version": version, "statistics": {}, "staleness": {0: 6}, "step_seconds": 0.1}
        learner.ask("trained", statistics)
        if version in kills:
            killed[-1].join(30)
            assert [taken(v) for v in range(uncommitted, version + 1)] == delivered[uncommitted:]
            for v in range(uncommitted, version + 1):
                learner.ask("trained", statistics | {"version": v})
        if version % 3 == 2:
            learner.ask("committed", {"version": version + 1})
            uncommitted = version + 1
        news = controller.ask("events", {"after": seen}).body
        events, seen = [*events, *news.get("events", ())], news.get("last", seen)
    for _, worker in workers:
        worker.stopping.set()
    for thread in threads:
        thread.join(10)
    status = controller.ask("status", {}).body
    assert status["conserved"] and status["version"] == STEPS
    assert status["groups"]["committed"] == STEPS * GROUPS
    steps = [event["step"] for event in events if event["kind"] == "step"]
    assert sorted(set(steps)) == list(range(1, STEPS + 1))
    replay.kill()
    for version, groups in Journal.read(tmp_path):
        arrays = {f"{n}.{name}": a for n, (_, group) in enumerate(groups) for name, a in group.arrays().items()}
        heads = {"groups": [head.model_dump() for head, _ in groups]}
        assert digest(Message("reply", 0, heads, arrays)) == delivered[version]


def test_a_replay_that_is_killed_between_commit_and_answer_gives_the_answer_when_it_is_back(tmp_path: Path) -> None:
    replay = Replay(tmp_path, DIES, lease_seconds=600.0)
    answers: dict[str, Message | None] = {}

    def ask(name: str, role: str, kind: str, body: Mapping[str, Any]) -> list[Any]:
        """What a client is answered at last, of a replay that has died of it once."""
        with closing(Client(replay.address, name, role, patience_seconds=100.0)) as client:
            asking = threading.Thread(target=lambda: answers.update({kind: client.request(kind, body)}), daemon=True)
            asking.start()
            assert replay.process.wait(60) == -signal.SIGKILL
            replay.start()
            asking.join(60)
            answer = answers[kind]
            assert answer is not None
            return list(answer.body["tasks" if kind == "lease" else "groups"])

    try:
        tasks = ask("generator-1", "generator", "lease", {"version": 0, "capacity": 3})
        generator, controller = (Worker(replay.address, f"{role}-1", role) for role in ("generator", "controller"))
        status = controller.ask("status", {}).body["groups"]
        assert (len(tasks), status["issued"], status["in_flight"], status["dropped"]) == (3, 3, 3, {})
        group = {"purpose": "train", "group_id": tasks[0]["group_id"], "prompt": "p", "texts": ["a", "b"]}
        assert generator.ask("group_arrived", group, payload().arrays()).body["accepted"]
        replay.kill()
        replay.start(DIES)
        (leased,) = ask("verifier-1", "verifier", "lease_verification", {"capacity": 2})
        assert leased["group_id"] == tasks[0]["group_id"], "it does not wait for the end of its first lease"
    finally:
        replay.stop()
