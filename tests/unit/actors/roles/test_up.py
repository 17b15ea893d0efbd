"""One role alone, without its command: how it ends, and why."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.config.loading import load
from actors.config.network import NetworkConfig
from actors.deadline import until
from actors.errors import EngineError, RunError
from actors.membership import Report
from actors.replay.board import Board
from actors.replay.buffer import Buffer
from actors.replay.limits import ReplayLimits
from actors.replay.service import ReplayService
from actors.roles import role as roles
from actors.roles import up
from actors.roles.role import Description, RoleContext, Storage
from actors.roles.up import Alone, StuckError
from actors.transport.address import resolve
from actors.transport.client import Heartbeat
from tests.fuzz.wire import Sums

QUICKSTART = Path(__file__).parents[4] / "recipes" / "quickstart.yaml"


class Worker:
    """A role that works until it is stopped, or for as long as its name says."""

    def __init__(self, context: RoleContext) -> None:
        self._kind, self._replay = context.name, context.lifeline
        self._stopping = threading.Event()

    def describe(self) -> Description:
        return Description("127.0.0.1:1")

    def run(self) -> None:
        if self._kind == "broken":
            raise EngineError("the engine is gone")
        if self._kind == "stuck":
            time.sleep(60)
        if self._kind == "joined":
            heartbeat = Heartbeat(self._replay, self._kind, "generator", 0.1, Report)
            self._stopping.wait(60)
            heartbeat.close()

    def stop(self) -> None:
        self._stopping.set()


@pytest.fixture
def replay() -> Iterator[ReplayService]:
    buffer = Buffer(ReplayLimits(max_staleness=0, groups_per_batch=1), 2, Sums())
    started = ReplayService(buffer, Board(20.0), resolve(NetworkConfig(), in_cluster=False), 2**20)
    started.start()
    yield started
    started.stop()


def alone(monkeypatch: pytest.MonkeyPatch, name: str, address: str, patience: float = 60.0) -> Alone:
    monkeypatch.setitem(roles.CLASSES, "generator", f"{__name__}:Worker")
    recipe = load(QUICKSTART, ["controller.wind_down_seconds=0.5"])
    return Alone("generator", RoleContext(recipe, name, Storage(Path("/nowhere")), address), patience)


def test_it_ends_when_it_is_told_to_and_leaves_the_list_of_members(
    monkeypatch: pytest.MonkeyPatch, replay: ReplayService
) -> None:
    one = alone(monkeypatch, "joined", replay.address)
    members = replay._board.members
    stop = threading.Event()
    thread = threading.Thread(target=one.run, args=(stop.is_set,))
    thread.start()
    assert until(lambda: "joined" in [m.name for m in members.alive()], 30)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
    assert "joined" not in [m.name for m in (*members.alive(), *members.silent())]


def test_it_ends_by_itself_when_its_work_is_done(monkeypatch: pytest.MonkeyPatch, replay: ReplayService) -> None:
    alone(monkeypatch, "done", replay.address).run(lambda: False)


def test_what_breaks_it_is_raised(monkeypatch: pytest.MonkeyPatch, replay: ReplayService) -> None:
    with pytest.raises(EngineError, match="the engine is gone"):
        alone(monkeypatch, "broken", replay.address).run(lambda: False)


def test_a_role_that_does_not_end_is_named(monkeypatch: pytest.MonkeyPatch, replay: ReplayService) -> None:
    with pytest.raises(StuckError, match=r"stuck did not end within 0\.5 s"):
        alone(monkeypatch, "stuck", replay.address).run(lambda: True)


def test_where_the_replay_is_gone_for_too_long_it_ends_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(up, "LEAVE_SECONDS", 0.1)
    with pytest.raises(RunError, match=r"tcp://127\.0\.0\.1:9 has not answered for 1 s"):
        alone(monkeypatch, "joined", "tcp://127.0.0.1:9", patience=1.0).run(lambda: False)
