"""Long polls on real sockets: who is answered, with how much, and that nobody else is looked at."""

import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from actors.config.network import NetworkConfig
from actors.deadline import until
from actors.membership import Report
from actors.replay import messages as m
from actors.replay.board import Board
from actors.replay.buffer import Buffer
from actors.replay.limits import ReplayLimits
from actors.replay.reply import Reply
from actors.replay.service import ReplayService
from actors.transport.address import resolve
from actors.transport.client import Client
from actors.transport.codec import Array
from tests.unit.actors.replay.buffer_world import Sums, payload

pytestmark = pytest.mark.e2e


#: How long a poll stays open: as long as it may (s).
WAIT_SECONDS = 60.0


class Counting(Buffer):
    """Counts how often it is asked what."""

    def __init__(self, limits: ReplayLimits) -> None:
        super().__init__(limits, 2, Sums())
        self.asked: list[str] = []

    def answer(
        self, request: m.BufferRequest, arrays: Mapping[str, Array], now: float, version: int = 0, number: int = 0
    ) -> Reply | None:
        self.asked.append(request.worker)
        return super().answer(request, arrays, now, version, number)


class World:
    """A replay with batches of eight groups, and workers that wait for it in threads."""

    def __init__(self) -> None:
        self.buffer = Counting(ReplayLimits(max_staleness=0, groups_per_batch=8))
        self.service = ReplayService(self.buffer, Board(20.0), resolve(NetworkConfig(), in_cluster=False), 2**20)
        self.service.start()
        self.answers: dict[str, Any] = {}
        self.threads: list[threading.Thread] = []

    def wait(self, worker: str, role: str, kind: str, **body: Any) -> None:
        """Have a worker wait for an answer, and return once its poll is open."""
        before = len(self.service._polls)

        def ask() -> None:
            client = Client(self.service.address, worker, role)
            self.answers[worker] = client.request(kind, body, wait_seconds=WAIT_SECONDS).body

        self.threads.append(threading.Thread(target=ask))
        self.threads[-1].start()
        assert until(lambda: len(self.service._polls) == before + 1, 30)

    def client(self, worker: str, role: str) -> Client:
        return Client(self.service.address, worker, role)


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    for worker in {"generator-1", "generator-2", "generator-3"} | {f"verifier-{n}" for n in range(20)}:
        world.client("controller", "controller").request("remove_member", {"name": worker})
    for thread in world.threads:
        thread.join(60)
    world.service.stop()


def lease(world: World, capacity: int = 8) -> list[dict[str, Any]]:
    tasks: list[dict[str, Any]] = (
        world.client("generator-0", "generator").request("lease", {"version": 0, "capacity": capacity}).body["tasks"]
    )
    return tasks


def submit(world: World, task: Mapping[str, Any]) -> None:
    body = {"purpose": "train", "group_id": task["group_id"], "prompt": "", "texts": ["a", "b"]}
    world.client("generator-0", "generator").request("group_arrived", body, payload().arrays())


def test_what_is_freed_is_shared_by_those_who_wait_for_it(world: World) -> None:
    lease(world)
    for number in (1, 2):
        world.wait(f"generator-{number}", "generator", "lease", version=0, capacity=8)
    world.client("controller", "controller").request("remove_member", {"name": "generator-0"})
    assert until(lambda: len(world.answers) == 2, 30)
    assert {worker: len(body["tasks"]) for worker, body in world.answers.items()} == {
        "generator-1": 4,
        "generator-2": 4,
    }


def test_idle_workers_are_not_looked_at(world: World) -> None:
    for number in range(20):
        world.wait(f"verifier-{number}", "verifier", "lease_verification", capacity=4)
    asked, tasks = len(world.buffer.asked), lease(world)
    for _ in range(50):
        world.client("learner", "learner").request("status")
    since = world.buffer.asked[asked:]
    assert len(since) >= 51 and set(since) == {"generator-0", "learner"}, "nothing came that a verifier waits for"
    submit(world, tasks[0])
    assert until(lambda: bool(world.answers), 30)
    assert list(world.answers) == ["verifier-0"], "it has waited longest"
    assert world.buffer.asked.count("verifier-1") == 0


def test_a_generator_gets_work_as_soon_as_it_has_the_weights_for_it(world: World) -> None:
    lease(world)
    world.wait("generator-1", "generator", "lease", version=0, capacity=2)
    world.client("generator-1", "generator").request("heartbeat", {"report": Report(version=1).model_dump()})
    assert until(lambda: bool(world.answers), 30)
    assert len(world.answers["generator-1"]["tasks"]) == 2
