"""What must hold after any history of faults, from what learner and replay have left behind. Pure.

conservation   every group that was issued is in one state, committed or dropped with a reason
tasks          every task number below the cursor was trained, is pending once, was dropped for good with a reason, or
               was passed over by the curriculum
once           no group is twice in the committed history
staleness      no trained token was older than the bound
batches        a version that was trained again, after the learner was replaced, was trained on the same batch
weights        the committed weights are those of training the committed batches once more, in order
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from actors.fleet.learner import NOTES, UNTRAINED, trained_on
from actors.replay.limits import REISSUED
from actors.replay.shards import snapshots_of
from actors.report.statistics import RESPONSE_LENGTH, TRAINED_REWARD

Note = Mapping[str, Any]


def notes_of(folder: Path) -> list[Note]:
    """What the synthetic learners of a run have noted. A last line that one of them was killed in counts for nothing:
    nobody was told of it.
    """
    notes = []
    for line in (folder / NOTES).read_text().splitlines() if (folder / NOTES).exists() else []:
        try:
            notes.append(json.loads(line))
        except ValueError:
            continue
    return notes


def broken(notes: Iterable[Note], groups: Mapping[str, Any], snapshot: Mapping[str, Any], bound: int) -> list[str]:
    """Every law that does not hold, in words; empty where all do.

    Args:
        notes: of the learners.
        groups: the ledger's counters at the end, see `GroupCounters`.
        snapshot: the replay's position in the newest checkpoint.
        bound: `replay.max_staleness`.
    """
    notes = list(notes)
    committed = max((note["committed"] for note in notes if "committed" in note), default=0)
    trained = [note for note in notes if "trained" in note]
    history = {note["trained"]: note for note in trained if note["trained"] < committed}
    return [
        *_conservation(groups),
        *_tasks(snapshot, sum(len(note["groups"]) for note in history.values())),
        *_once(history, committed),
        *_staleness(trained, bound),
        *_batches(trained),
        *_weights(notes, history, committed),
    ]


def broken_in_record(
    events: Iterable[Mapping[str, Any]], kept: Mapping[int, list[int]], snapshot: Mapping[str, Any], bound: int
) -> list[str]:
    """The laws that the record of a run with a real learner can show; that of weights is `leeway replay`'s.

    Args:
        events: of metrics.jsonl.
        kept: the groups of every batch that the journal keeps, by the version that they were trained on.
        snapshot: the replay's position in the newest checkpoint.
        bound: `replay.max_staleness`.
    """
    events = list(events)
    steps = [event for event in events if event["kind"] == "step"]
    groups = next((event["groups"] for event in reversed(events) if event["kind"] == "tick"), None)
    old = [event["step"] for event in steps if any(int(age) > bound for age in event["staleness"])]
    committed = snapshots_of(snapshot)[0]["version"]
    history = {version: {"groups": ids} for version, ids in kept.items() if version < committed}
    return [
        *(_conservation(groups) if groups else ["conservation: there is no tick on record"]),
        *_tasks(snapshot, sum(len(batch["groups"]) for batch in history.values())),
        *_once(history, committed),
        *([f"staleness: steps {old} have trained tokens that were over the bound"] if old else []),
        *_batches({"trained": event["step"] - 1, "digest": _seen_of_batch(event)} for event in steps),
    ]


def _seen_of_batch(step: Mapping[str, Any]) -> list[Any]:
    """What the record of a step tells of its batch, whoever trained it."""
    return [step["staleness"], *(step["statistics"].get(name) for name in (TRAINED_REWARD, RESPONSE_LENGTH))]


def _conservation(groups: Mapping[str, Any]) -> Iterator[str]:
    states = ("in_flight", "ready", "delivered", "trained", "committed")
    found = sum(groups[state] for state in states) + sum(groups["dropped"].values())
    if found != groups["issued"]:
        yield f"conservation: {groups['issued']} groups were issued, and {found} are accounted for: {groups}"


def _tasks(snapshot: Mapping[str, Any], trained: int) -> Iterator[str]:
    shards = snapshots_of(snapshot)
    committed = sum(shard["committed"] for shard in shards)
    if committed != trained:
        yield f"tasks: the replay has committed {committed} groups, and the learner has trained {trained}"
    for number, shard in enumerate(shards):
        yield from _tasks_of(shard, number, len(shards))


def _tasks_of(snapshot: Mapping[str, Any], number: int, shards: int) -> Iterator[str]:
    cursor, pending = snapshot["cursor"], snapshot["pending"]
    again = {str(reason) for reason in REISSUED}
    gone = {reason: count for reason, count in snapshot["dropped"].items() if reason not in again}
    if twice := [task for task, count in Counter(pending).items() if count > 1]:
        yield f"tasks: {twice} are pending more than once"
    if strange := [task for task in pending if task % shards != number]:
        yield f"tasks: {strange} are pending in shard {number} of {shards}, which they are not of"
    if beyond := [task for task in pending if task // shards >= cursor]:
        yield f"tasks: {beyond} are pending, and the cursor is at {cursor}"
    passed = sum(snapshot["passed_over"].values())
    found = snapshot["committed"] + len(pending) + sum(gone.values()) + passed
    if found != cursor:
        yield (
            f"tasks: {cursor} were begun, and {found} are accounted for: {snapshot['committed']} trained, "
            f"{len(pending)} pending, dropped {gone}, {passed} passed over"
        )


def _once(history: Mapping[int, Note], committed: int) -> Iterator[str]:
    if missing := set(range(committed)) - history.keys():
        yield f"once: versions {sorted(missing)} are committed, and nobody has trained them"
    counts = Counter(group for note in history.values() for group in note["groups"])
    if twice := sorted(group for group, count in counts.items() if count > 1):
        yield f"once: the groups {twice} were trained more than once"


def _staleness(trained: Iterable[Note], bound: int) -> Iterator[str]:
    for note in trained:
        if note["oldest"] > bound:
            yield f"staleness: version {note['trained']} has trained tokens of {note['oldest']} versions before"


def _batches(trained: Iterable[Note]) -> Iterator[str]:
    digests: dict[int, Any] = {}
    for note in trained:
        if digests.setdefault(note["trained"], note["digest"]) != note["digest"]:
            yield f"batches: version {note['trained']} was trained again on another batch"


def _weights(notes: Iterable[Note], history: Mapping[int, Note], committed: int) -> Iterator[str]:
    weights = UNTRAINED
    for version in range(committed):
        if version in history:
            weights = trained_on(weights, history[version]["digest"])
    found = [note["weights"] for note in notes if note.get("committed") == committed]
    if found and found[-1] != weights:
        yield f"weights: those of version {committed} are not those of the committed batches in order"
