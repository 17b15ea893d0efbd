"""What a controller makes of the shards of a replay, of which one may be away."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from actors.config.loading import load
from actors.control.recording import Recording, run_info
from actors.control.watch import Watch
from actors.errors import PeerTimeoutError
from actors.events import FirstSeen, Phase, RolloutSample
from actors.membership import Membership, Report
from actors.replay.board import Board
from actors.replay.buffer import Buffer
from actors.replay.limits import ReplayLimits
from actors.replay.messages import REQUESTS
from actors.report.recorder import RunRecorder
from actors.transport.codec import Message, parse
from tests.unit.actors.replay.buffer_world import Sums

QUICKSTART = Path(__file__).parents[4] / "recipes" / "quickstart.yaml"
NAMES = ("replay", "replay-shard-1")


class FakeShard:
    """Buffer and board of a shard, in the place of the client that asks it."""

    def __init__(self, number: int) -> None:
        self.buffer = Buffer(ReplayLimits(4, 1, shard=number, shards=2), 2, Sums())
        self.board = Board(20.0)
        self.away = False
        self.board.members.heard(NAMES[number], "replay", 0.0, Report(ready=True, metrics=f"127.0.0.1:{number}"))

    @property
    def members(self) -> Membership:
        return self.board.members

    def request(self, kind: str, body: Mapping[str, Any] | None = None, *, deadline_seconds: float) -> Message:
        if self.away:
            raise PeerTimeoutError(f"no answer within {deadline_seconds:g} s")
        fields = {"worker": "controller", "role": "controller", **(body or {})}
        request = parse(Message(kind, 1, fields), REQUESTS)
        if kind == "status":
            reply = self.buffer.answer(request, {}, 0.0)  # type: ignore[arg-type]
            assert reply is not None
            return Message("reply", 1, reply.body)
        return Message("reply", 1, self.board.answer(request, 0.0) or {})  # type: ignore[arg-type]

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def shards() -> list[FakeShard]:
    return [FakeShard(0), FakeShard(1)]


@pytest.fixture
def watch(tmp_path: Path, shards: list[FakeShard]) -> Watch:
    recipe = load(QUICKSTART, ["replay.shards=2", f"output={tmp_path}"])
    made = Watch(recipe, Recording(RunRecorder(run_info(recipe, tmp_path))))
    assert [link.name for link in made.shards] == list(NAMES)
    for link, shard in zip(made.shards, shards, strict=True):
        link.client, link.up = shard, True
    return made


def test_the_first_shard_tells_whoever_joins_where_the_others_are(watch: Watch, shards: list[FakeShard]) -> None:
    watch.announce_shards(["tcp://a:1", ""])
    assert shards[0].request("directory", deadline_seconds=1.0).body["services"] == {}, "it is not up yet"
    watch.announce_shards(["tcp://a:1", "tcp://b:2"])
    assert shards[0].request("directory", deadline_seconds=1.0).body["services"] == {"replay-1": "tcp://b:2"}
    assert shards[1].request("directory", deadline_seconds=1.0).body["services"] == {}


def test_counters_are_those_of_all_shards_also_while_one_is_away(watch: Watch, shards: list[FakeShard]) -> None:
    shards[0].buffer.ledger.lease("g", 0, 2, 0.0)
    shards[1].buffer.ledger.lease("g", 0, 3, 0.0)
    watch.tick()
    assert watch.status["groups"]["issued"] == watch.status["groups"]["in_flight"] == 5
    shards[1].away = True
    shards[0].buffer.ledger.lease("g", 0, 1, 0.0)
    watch.tick()
    assert watch.status["groups"]["issued"] == 6 and watch.status["conserved"]


def test_members_are_read_from_one_shard_and_from_another_where_that_is_lost(
    watch: Watch, shards: list[FakeShard]
) -> None:
    for shard in shards:
        shard.members.heard("generator-1", "generator", 0.0, Report(ready=True, generated_tokens=100))
    watch.tick()
    assert [member["name"] for member in watch.members] == ["replay", "generator-1", "replay-shard-1"]
    watch.lost_replay(0)
    watch.tick()
    assert [member["name"] for member in watch.members] == ["replay-shard-1", "generator-1"]
    shards[0] = watch.shards[0].client = FakeShard(0)  # which has heard of nobody yet
    watch.shards[0].up = True
    watch.pull_events()
    watch.tick()
    assert [member["name"] for member in watch.members] == ["replay-shard-1", "generator-1", "replay"]


def test_what_a_shard_has_to_tell_is_told_once_and_hides_nothing_of_the_first(
    watch: Watch, shards: list[FakeShard]
) -> None:
    for _ in range(3):
        shards[1].board.record(Phase(name="second"))
    watch.pull_events()
    shards[0].board.record(Phase(name="first"))
    watch.pull_events()
    watch.pull_events()
    told, _ = watch._recording.after(0)
    assert [event["name"] for event in told] == ["second", "second", "second", "first"]


def test_what_several_shards_see_first_is_told_once(watch: Watch, shards: list[FakeShard]) -> None:
    sample = RolloutSample(
        task_key="t", prompt="p", response="r", reward=1.0, parts={}, version_min=0, version_max=0, spans=[],
        truncated=False, verdict_status="ok", source="s",
    )  # fmt: skip
    for shard in reversed(shards):
        shard.board.record(FirstSeen(what="reflection", step=1 + shard.buffer.ledger.limits.shard, sample=sample))
        watch.pull_events()
    told, _ = watch._recording.after(0)
    assert [event["step"] for event in told] == [2]
