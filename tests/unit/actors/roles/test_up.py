"""One role alone, without its command: how it ends, and why."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from actors.config.loading import load
from actors.config.network import NetworkConfig
from actors.deadline import until
from actors.errors import EngineError, ProtocolError, RunError
from actors.membership import Report
from actors.replay.board import Board
from actors.replay.buffer import Buffer
from actors.replay.limits import ReplayLimits
from actors.replay.service import ReplayService
from actors.roles import role as roles
from actors.roles import up
from actors.roles.role import Description, RoleContext, Storage
from actors.roles.up import Alone, StuckError, every_shard
from actors.transport.address import resolve
from actors.transport.client import Client, Heartbeat
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


def alone(
    monkeypatch: pytest.MonkeyPatch, name: str, address: str, patience: float = 60.0, to_end: float = 60.0
) -> Alone:
    monkeypatch.setitem(roles.CLASSES, "generator", f"{__name__}:Worker")
    recipe = load(QUICKSTART, [f"controller.wind_down_seconds={to_end}"])
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
    thread.join(60)
    assert not thread.is_alive()
    assert until(lambda: "joined" not in [m.name for m in (*members.alive(), *members.silent())], 30)


def test_it_ends_by_itself_when_its_work_is_done(monkeypatch: pytest.MonkeyPatch, replay: ReplayService) -> None:
    alone(monkeypatch, "done", replay.address).run(lambda: False)


def test_what_breaks_it_is_raised(monkeypatch: pytest.MonkeyPatch, replay: ReplayService) -> None:
    with pytest.raises(EngineError, match="the engine is gone"):
        alone(monkeypatch, "broken", replay.address).run(lambda: False)


def test_a_role_that_does_not_end_is_named(monkeypatch: pytest.MonkeyPatch, replay: ReplayService) -> None:
    with pytest.raises(StuckError, match=r"stuck did not end within 0\.5 s"):
        alone(monkeypatch, "stuck", replay.address, to_end=0.5).run(lambda: True)


def test_where_the_replay_is_gone_for_too_long_it_ends_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(up, "LEAVE_SECONDS", 0.1)
    with pytest.raises(RunError, match=r"tcp://127\.0\.0\.1:9 has not answered for 1 s"):
        alone(monkeypatch, "joined", "tcp://127.0.0.1:9", patience=1.0).run(lambda: False)


def test_the_address_of_the_first_shard_is_enough_once_the_controller_has_told_it_of_the_others(
    replay: ReplayService,
) -> None:
    found: list[str] = []

    def find() -> None:
        found.append(every_shard(replay.address, 3, "generator-1", "generator", 60.0, lambda: False))

    finding = threading.Thread(target=find)
    finding.start()
    with closing(Client(replay.address, "controller", "controller")) as controller:
        for number in (1, 2):
            assert not found
            body = {"service": f"replay-{number}", "address": f"tcp://10.0.0.{number}:5555"}
            controller.request("announce", body)
        for bad in ("replay", "replay-x", "replay-1 ", "ledger"):
            with pytest.raises(ProtocolError, match="service"):
                controller.request("announce", {"service": bad, "address": "tcp://10.0.0.9:1"})
    finding.join(60)
    assert found == [f"{replay.address},tcp://10.0.0.1:5555,tcp://10.0.0.2:5555"]
    assert every_shard(found[0], 3, "g", "generator", 0.0, lambda: False) == found[0], "nobody is asked"


def test_who_is_told_of_no_other_shard_says_what_to_do(replay: ReplayService) -> None:
    with pytest.raises(RunError, match="name all of them in --join"):
        every_shard(replay.address, 2, "generator-1", "generator", 0.1, lambda: False)
    every_shard(replay.address, 2, "generator-1", "generator", 60.0, lambda: True)  # it is to end, and does not wait
