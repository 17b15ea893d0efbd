"""What the advantages of a batch whose rewards have parts tell apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from learner import Group, ObjectiveConfig
from learner.algorithms.samples import samples_of
from learner.errors import BatchError
from tests.unit.learner.conftest import GroupFactory

GDPO = ObjectiveConfig(name="gdpo")


def _with_parts(group: Group, *rows: dict[str, float]) -> Group:
    completions = zip(group.completions, rows, strict=True)
    return replace(group, completions=tuple(replace(c, reward=sum(r.values()), parts=r) for c, r in completions))


def _advantages(groups: list[Group], objective: ObjectiveConfig) -> list[list[float]]:
    return [[s.advantage for s in group] for group in samples_of(groups, objective)]


def test_gdpo_tells_apart_what_the_sum_of_the_parts_does_not(make_groups: GroupFactory) -> None:
    """The paper's example: of two rewards, one answer has one and the other answer both, against none at all."""
    first, second = make_groups(count=2, size=2)
    none, one, both = ({"a": x, "b": y} for x, y in ((0.0, 0.0), (0.0, 1.0), (1.0, 1.0)))
    groups = [_with_parts(first, none, one), _with_parts(second, none, both)]
    grpo = _advantages(groups, ObjectiveConfig(name="grpo"))
    assert grpo[0] == pytest.approx(grpo[1], rel=1e-3)
    gdpo = _advantages(groups, GDPO)
    assert gdpo[1] == pytest.approx([2 * a for a in gdpo[0]])


def test_gdpo_is_of_unit_spread_over_the_batch_and_silent_where_no_part_differs(make_groups: GroupFactory) -> None:
    groups = make_groups(count=3, size=2)
    same, other = {"a": 1.0, "b": 0.3}, {"a": 0.0, "b": 0.4}
    found = _advantages(
        [_with_parts(groups[0], same, same), _with_parts(groups[1], same, other), _with_parts(groups[2], other, same)],
        ObjectiveConfig(name="gdpo", part_weights={"a": 1.0, "b": 0.5}),
    )
    assert found[0] == [0.0, 0.0]
    assert np.std(found, ddof=1) == pytest.approx(1.0, rel=1e-3) and np.mean(found) == pytest.approx(0.0)
    assert found[1][0] > 0 > found[1][1], "the heavier part decides"


def test_a_reward_without_parts_is_its_only_one(make_groups: GroupFactory) -> None:
    groups = make_groups()
    found, grpo = (np.array(_advantages(groups, o)) for o in (GDPO, ObjectiveConfig(name="grpo")))
    np.testing.assert_allclose(found, grpo / grpo.std(ddof=1), rtol=1e-3)


def test_weights_of_parts_that_nothing_has_are_refused(make_groups: GroupFactory) -> None:
    (group,) = make_groups(count=1, size=2)
    objective = ObjectiveConfig(name="gdpo", part_weights={"accurracy": 1.0})
    with pytest.raises(BatchError, match=r"parts \(accuracy\) is among accurracy"):
        samples_of([_with_parts(group, {"accuracy": 1.0}, {"accuracy": 0.0})], objective)
