"""Every law is broken once, and named."""

import json
from pathlib import Path
from typing import Any

import pytest

from actors.fleet.laws import broken, broken_in_record, notes_of
from actors.fleet.learner import NOTES, UNTRAINED, trained_on

BOUND = 2


def history() -> list[dict[str, Any]]:
    """Three batches of two groups, of which two are committed, and the learner was replaced once in between."""
    weights, notes = UNTRAINED, []
    for version, groups in enumerate(([0, 1], [3, 4], [5, 6])):
        weights = trained_on(weights, f"digest {version}")
        notes.append(
            {"trained": version, "digest": f"digest {version}", "weights": weights, "groups": groups, "oldest": version}
        )
    again = notes[1]
    return [notes[0], notes[1], again, {"committed": 2, "weights": again["weights"]}, notes[2]]


def groups() -> dict[str, Any]:
    counts = {"issued": 9, "in_flight": 1, "ready": 0, "delivered": 0, "trained": 2, "committed": 4}
    return {**counts, "dropped": {"stale": 1, "zero_variance": 1}}


def snapshot() -> dict[str, Any]:
    dropped = {"stale": 1, "zero_variance": 1}
    counts = {"version": 2, "cursor": 10, "committed": 4, "pending": [2, 6, 7]}
    return {**counts, "dropped": dropped, "passed_over": {"never": 1, "always": 1}}


def test_a_history_with_a_replaced_learner_breaks_nothing() -> None:
    assert broken(history(), groups(), snapshot(), BOUND) == []


def changed(tree: Any, path: list[Any], value: Any) -> None:
    for name in path[:-1]:
        tree = tree[name]
    tree[path[-1]] = value


@pytest.mark.parametrize(
    ("where", "path", "value", "law"),
    [
        ("groups", ["issued"], 10, "conservation: 10 groups were issued, and 9"),
        ("snapshot", ["cursor"], 11, "tasks: 11 were begun, and 10 are accounted for"),
        ("snapshot", ["passed_over"], {"always": 1}, "tasks: 10 were begun, and 9 are accounted for"),
        ("snapshot", ["pending"], [2, 2, 6], r"tasks: [2] are pending more than once"),
        ("snapshot", ["pending"], [2, 6, 10], r"tasks: [10] are pending, and the cursor is at 10"),
        ("snapshot", ["committed"], 5, "tasks: the replay has committed 5 groups, and the learner has trained 4"),
        ("notes", [0, "groups"], [0, 3], r"once: the groups [3] were trained more than once"),
        ("notes", [4, "oldest"], 3, "staleness: version 2 has trained tokens of 3 versions before"),
        ("notes", [1], {**history()[1], "digest": "another"}, "batches: version 1 was trained again on another batch"),
        ("notes", [3, "weights"], UNTRAINED, "weights: those of version 2"),
        ("notes", [0], {"committed": 0}, r"once: versions [0] are committed, and nobody has trained them"),
    ],
)
def test_what_is_broken_is_named(where: str, path: list[Any], value: Any, law: str) -> None:
    # through JSON, so that no note is another one's object
    told = json.loads(json.dumps({"notes": history(), "groups": groups(), "snapshot": snapshot()}))
    changed(told[where], path, value)
    assert any(line.startswith(law) for line in broken(told["notes"], told["groups"], told["snapshot"], BOUND))


def record() -> list[dict[str, Any]]:
    """The same history as a run records it."""
    seen = [{"reward_mean": 0.1 * version, "response_length_mean": 7.0} for version in range(3)]
    steps = [
        {"kind": "step", "step": version + 1, "statistics": seen[version], "staleness": {"1": 3, str(version): 1}}
        for version in (0, 1, 1, 2)
    ]
    return [*steps, {"kind": "tick", "groups": groups()}]


KEPT = {0: [0, 1], 1: [3, 4], 2: [5, 6]}


def test_the_record_of_a_run_whose_learner_was_replaced_breaks_nothing() -> None:
    assert broken_in_record(record(), KEPT, snapshot(), BOUND) == []


@pytest.mark.parametrize(
    ("where", "path", "value", "law"),
    [
        ("record", [4, "groups", "issued"], 10, "conservation: 10 groups were issued, and 9"),
        ("record", [4, "kind"], "phase", "conservation: there is no tick on record"),
        ("record", [3, "staleness"], {"3": 1}, "staleness: steps [3] have trained tokens that were over the bound"),
        ("record", [2, "staleness"], {"0": 1}, "batches: version 1 was trained again on another batch"),
        ("record", [2, "statistics", "reward_mean"], 0.2, "batches: version 1 was trained again on another batch"),
        ("kept", ["1"], [3, 0], r"once: the groups [0] were trained more than once"),
        ("kept", ["1"], [3], "tasks: the replay has committed 4 groups, and the learner has trained 3"),
        ("snapshot", ["version"], 4, r"once: versions [3] are committed, and nobody has trained them"),
    ],
)
def test_what_a_record_shows_to_be_broken_is_named(where: str, path: list[Any], value: Any, law: str) -> None:
    told = json.loads(json.dumps({"record": record(), "kept": KEPT, "snapshot": snapshot()}))
    changed(told[where], path, value)
    kept = {int(version): ids for version, ids in told["kept"].items()}
    assert any(line.startswith(law) for line in broken_in_record(told["record"], kept, told["snapshot"], BOUND))


def test_a_line_that_a_learner_was_killed_in_counts_for_nothing(tmp_path: Path) -> None:
    assert notes_of(tmp_path) == []
    (tmp_path / NOTES).write_text('{"trained": 0}\n{"trai')
    assert notes_of(tmp_path) == [{"trained": 0}]
