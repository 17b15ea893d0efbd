"""Several ledgers beside each other keep the bounds of one, and several answers become one."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.config.loading import load
from actors.config.resuming import refused
from actors.config.roles import JournalConfig
from actors.errors import RecipeError
from actors.replay.batch import decode_batch
from actors.replay.journal import Journal, place_of
from actors.replay.ledger import Ledger
from actors.replay.limits import ReplayLimits
from actors.replay.queues import State
from actors.replay.resuming import settle_journals
from actors.replay.shards import joined, parts_of, shard_of, snapshots_of
from actors.replay.shares import decode_outlines, fill, request_of
from actors.report.statistics import SOURCE_LENGTH, SOURCE_REWARD
from actors.transport.codec import Message
from tests.unit.actors.replay.buffer_world import Sums, World
from tests.unit.actors.replay.journal_world import LIMITS, Kept

QUICKSTART = Path(__file__).parents[4] / "recipes" / "quickstart.yaml"
SHARDS = 2


class Share(World):
    """One of two shards, which has one group of every batch."""

    def __init__(self, shard: int) -> None:
        super().__init__(max_staleness=4, groups_per_batch=1, shard=shard, shards=SHARDS)

    def generate(self, version: int, groups: int = 1) -> None:
        for task in self.lease(groups, version):
            self.submit(task, version)
            self.score([1.0, 0.0])


class KeptShare(Kept):
    """The same with a journal."""

    def __init__(self, folder: Path, shard: int) -> None:
        self.shard = shard
        super().__init__(place_of(folder, shard), keep="all")

    def open(self) -> None:
        self.limits = replace(LIMITS, groups_per_batch=1, shard=self.shard, shards=SHARDS)
        super().open()

    def generate(self, version: int) -> None:
        for task in self.lease(capacity=1, version=version):
            self.submit(task, version)
            self.score([1.0, 0.0])


def ask(worlds: "list[Share] | list[KeptShare]", kind: str, body: Mapping[str, Any]) -> Message:
    """What a client of all shards gets."""
    replies = {}
    for shard, part in parts_of(kind, body, SHARDS).items():
        reply = worlds[shard].say(kind, "learner", **part)
        replies[shard] = Message("reply", 1, {k: v for k, v in reply.items() if k != "arrays"}, reply["arrays"])
    return joined(kind, body, replies, SHARDS)


# ---------------------------------------------------------------- routing


@pytest.mark.parametrize("kind", ["group_arrived", "group_rejected", "progress", "verdict"])
def test_what_is_of_a_group_goes_to_its_shard_and_evaluations_to_the_first(kind: str) -> None:
    for group_id in range(9):
        body = {"purpose": "train", "group_id": group_id}
        assert parts_of(kind, body, 3) == {group_id % 3: body}
        held_out = {"purpose": "evaluate", "group_id": group_id}
        assert parts_of(kind, held_out, 3) == {0: held_out}


def test_leases_are_renewed_where_they_are_from() -> None:
    body = {"purpose": "train", "group_ids": [5, 2, 7, 4]}
    parts = parts_of("renew", body, 2)
    assert {shard: part["group_ids"] for shard, part in parts.items()} == {0: [2, 4], 1: [5, 7]}
    lost = {0: Message("reply", 1, {"lost": [4]}), 1: Message("reply", 1, {"lost": []})}
    assert joined("renew", body, lost, 2).body == {"lost": [4]}


@given(st.integers(1, 5), st.data())
def test_numbers_of_tasks_and_groups_say_which_shard_they_are_of(shards: int, data: st.DataObject) -> None:
    tasks, groups = [], []
    for shard in range(shards):
        ledger = Ledger(ReplayLimits(100, 1, shard=shard, shards=shards))
        entries = ledger.lease("g", 0, data.draw(st.integers(0, 20)), 0.0)
        assert {shard_of("train", entry.group_id, shards) for entry in entries} <= {shard}
        tasks += [entry.task for entry in entries]
        groups += [entry.group_id for entry in entries]
    assert len(set(tasks)) == len(tasks) and len(set(groups)) == len(groups)
    if shards == 1:
        assert tasks == groups == list(range(len(tasks))), "one shard counts as ever"


# ---------------------------------------------------------------- the bound

ACTIONS = st.tuples(st.sampled_from(["lease", "work", "lose", "train", "commit"]), st.integers(0, 3), st.integers(1, 9))


@given(st.sampled_from([1, 2, 3, 6]), st.integers(0, 3), st.lists(ACTIONS, max_size=120))
def test_shards_together_never_admit_more_than_one_ledger_would(
    shards: int, bound: int, actions: list[tuple[str, int, int]]
) -> None:
    size, version = 6, 0
    ledgers = [Ledger(ReplayLimits(bound, size // shards, shard=s, shards=shards)) for s in range(shards)]
    for action, pick, count in actions:
        ledger = ledgers[pick % shards]
        match action:
            case "lease":
                ledger.lease(f"g{pick}", version, count, 0.0)
            case "work":
                for entry in list(ledger.groups.states[State.LEASED].values())[:count]:
                    assert ledger.group_arrived(entry.group_id, entry.oldest, version)
                    assert ledger.verdict(entry.group_id, [0.0, 1.0])
            case "lose":
                ledger.worker_lost(f"g{pick}")
            case "train":
                taken = [each.take_batch(version) for each in ledgers]
                if all(batch is not None for batch in taken):
                    batch = [entry for share in taken for entry in share or []]
                    assert len(batch) == size
                    assert all(version - entry.oldest <= bound for entry in batch)
                    for each in ledgers:
                        each.trained(version)
                    version += 1
            case "commit":  # one may hear of it, and the next only from the learner that takes this one's place
                ledger.commit(version)
        outstanding = sum(each.issued - each.dropped.total() for each in ledgers)
        assert outstanding <= (bound + version + 1) * size
        assert all(each.conserved() for each in ledgers)


# ---------------------------------------------------------------- the union


def test_a_batch_is_the_shares_of_all_shards_in_their_order() -> None:
    shards = [Share(0), Share(1)]
    for world in reversed(shards):
        world.generate(0)
    batch = ask(shards, "take_batch", {"version": 0})
    groups = decode_batch(batch.body, batch.arrays, 2)
    assert [group.id for group in groups] == [0, 1]
    assert [head["source"] for head in batch.body["groups"]] == ["even", "odd"]


def test_ranks_get_the_payloads_in_the_order_in_which_they_ask() -> None:
    shards = [World(max_staleness=4, groups_per_batch=2, shard=shard, shards=SHARDS) for shard in range(SHARDS)]
    for world in shards:
        for task in world.lease(2):
            world.submit(task)
            world.score([1.0, 0.0])
    whole = ask(shards, "take_batch", {"version": 0})  # type: ignore[arg-type]
    outlines = ask(shards, "take_batch", {"version": 0, "outlines": True})  # type: ignore[arg-type]
    groups, share = decode_outlines(outlines.body, 2), [[0], [0, 1], [1], [0, 1]]
    mixed, shares = [groups[i] for i in (3, 0, 2, 1)], [share[i] for i in (3, 0, 2, 1)]
    found = ask(shards, "take_payloads", request_of(0, mixed, shares))  # type: ignore[arg-type]
    expected = {group.id: group for group in decode_batch(whole.body, whole.arrays, 2)}
    for group, chosen in zip(fill(mixed, shares, found.arrays), shares, strict=True):
        for i in chosen:
            assert (group.completions[i].tokens == expected[group.id].completions[i].tokens).all()


def test_the_first_shard_tells_of_a_step_what_the_groups_of_all_say() -> None:
    shards = [Share(0), Share(1)]
    for world, rewards in zip(shards, ([1.0, 0.0], [1.0, 1.0, 0.5, 0.5]), strict=True):
        for i in range(0, len(rewards), 2):
            (task,) = world.lease()
            world.submit(task)
            world.score(rewards[i : i + 2])
    shards[1].generate(0)
    for _ in range(2):  # the learner was replaced before the first shard had heard of the step
        ask(shards, "take_batch", {"version": 0})
        told: dict[str, Any] = {"version": 0, "statistics": {"loss": 1.0}, "staleness": {}, "step_seconds": 1.0}
        tally = shards[1].say("trained", "learner", **told)["tally"]
        assert shards[1].last.events == ()
    shards[0].say("trained", "learner", **told, tallies=[tally])
    step, *_ = shards[0].last.events
    assert step.statistics["loss"] == 1.0  # type: ignore[union-attr]
    assert step.statistics["mixed_groups"] == 2 / 4  # type: ignore[union-attr]
    assert step.statistics["reward"] == pytest.approx(5 / 8)  # type: ignore[union-attr]
    assert step.statistics[f"{SOURCE_REWARD}odd"] == pytest.approx(4 / 6)  # type: ignore[union-attr]
    assert step.statistics[f"{SOURCE_LENGTH}odd"] > 0  # type: ignore[union-attr]


def test_a_checkpoint_has_the_position_of_every_shard() -> None:
    shards = [Share(0), Share(1)]
    shards[1].lease()
    snapshot = ask(shards, "snapshot", {"version": 0}).body["snapshot"]
    first, second = snapshots_of(snapshot)
    assert (first["pending"], second["pending"]) == ([], [1])
    again = Ledger.resume(shards[1].buffer.ledger.limits, dict(second))
    assert [entry.task for entry in again.lease("g", 0, 2, 0.0)] == [1, 3]
    assert snapshots_of(first) == [first], "of one shard it is as ever"


# ---------------------------------------------------------------- death

DEATHS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1), st.booleans()), max_size=8)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(deaths=DEATHS, known=st.integers(1, 3))
def test_a_learner_that_resumes_gets_the_same_batches_whatever_died(
    tmp_path_factory: pytest.TempPathFactory, deaths: list[tuple[int, int, bool]], known: int
) -> None:
    folder = tmp_path_factory.mktemp("run")
    shards = [KeptShare(folder, shard) for shard in range(SHARDS)]
    first = []
    for version in range(6):
        for world in shards:
            world.generate(version)
        first.append(ask(shards, "take_batch", {"version": version}))
        for shard, world in enumerate(shards):
            if version < 5 or shard == 1:  # the learner dies between the two
                world.say("trained", "learner", version=version, statistics={}, staleness={}, step_seconds=1.0)
            world.end_tick()
        for moment, shard, _ in deaths:
            if moment == version:
                shards[shard].crash()
    shards[0].say("committed", "learner", version=known)  # and the other is told by the learner that comes
    shards[0].end_tick()
    for _, shard, again in deaths:
        if again:
            shards[shard].crash()
    for world in shards:
        world.say("committed", "learner", version=known)
        world.end_tick()
    for version in range(known, 6):
        batch = ask(shards, "take_batch", {"version": version})
        assert batch.body == first[version].body
        assert {name: a.tobytes() for name, a in batch.arrays.items()} == {
            name: a.tobytes() for name, a in first[version].arrays.items()
        }
    for world in shards:
        world.journal.close()
    kept = dict(Journal.read(folder, SHARDS))
    assert sorted(kept) == list(range(known))
    for version, groups in kept.items():
        assert [head.model_dump() for head, _ in groups] == first[version].body["groups"]


@pytest.mark.parametrize("missing", [0, 1])
def test_a_run_goes_on_with_all_of_its_journals_or_with_none(tmp_path: Path, missing: int) -> None:
    shards = [KeptShare(tmp_path, shard) for shard in range(SHARDS)]
    for world in shards:
        world.generate(0)
        world.train(0)
        world.end_tick()
        world.journal.close()
    identities = [replace(world.journal.identity, run="run") for world in shards]
    assert "2 groups" in settle_journals(tmp_path, identities, JournalConfig(), 0, Sums)
    shutil.rmtree(place_of(tmp_path, missing))
    note = settle_journals(tmp_path, identities, JournalConfig(), 0, Sums)
    assert "another shard" in note
    (left,) = tmp_path.iterdir()
    assert left.name in note and left.name.startswith(place_of(tmp_path, 1 - missing).name + "-until-000000-")


def test_shares_are_equal_or_refused_in_one_line() -> None:
    with pytest.raises(RecipeError, match=r"replay\.shards must divide replay\.groups_per_batch; 8 groups"):
        load(QUICKSTART, ["replay.shards=3", "replay.groups_per_batch=8"])


def test_every_shard_has_a_port() -> None:
    with pytest.raises(RecipeError, match=r"network\.ports\.replay must leave room"):
        load(QUICKSTART, ["replay.shards=2", "network.ports.replay=65535"])


def test_a_run_keeps_its_number_of_shards() -> None:
    (line,) = refused(load(QUICKSTART), load(QUICKSTART, ["replay.shards=2"]))
    assert line.startswith("replay.shards: ")
