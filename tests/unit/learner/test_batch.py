"""Batches: what is refused before it is trained on, and what a saved batch holds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from learner import BatchError, Group
from learner.batch import load_groups, save_groups, validate_groups
from tests.unit.learner.conftest import VOCABULARY, GroupFactory


def test_saved_groups_come_back(make_groups: GroupFactory, tmp_path: Path) -> None:
    masked = make_groups(count=2, masked=0.5)
    groups = [*masked, replace(make_groups(count=1, seed=9)[0], id=2)]
    save_groups(groups, tmp_path / "batch.npz")
    loaded = load_groups(tmp_path / "batch.npz")
    assert [g.id for g in loaded] == [0, 1, 2]
    for before, after in zip(groups, loaded, strict=True):
        assert np.array_equal(before.prompt, after.prompt)
        for mine, theirs in zip(before.completions, after.completions, strict=True):
            for field in ("tokens", "logprobs", "versions"):
                assert np.array_equal(getattr(mine, field), getattr(theirs, field)), field
            assert (mine.reward, mine.truncated) == (theirs.reward, theirs.truncated)
            assert np.array_equal(mine.unmasked(mine.tokens), theirs.unmasked(theirs.tokens))
    assert all(c.loss_mask is None for c in loaded[2].completions)


@pytest.mark.parametrize(
    ("mask", "says"),
    [
        (np.zeros(6, np.uint8), "excludes every token"),
        (np.ones(5, np.uint8), "for each of the 6 tokens"),
        (np.ones((6, 1), np.uint8), "for each of the 6 tokens"),
        (np.full(6, 2, np.uint8), "up to 2"),
        (np.ones(6, np.float32), "must be uint8"),
    ],
)
def test_a_bad_loss_mask_is_refused(make_groups: GroupFactory, mask: np.ndarray, says: str) -> None:
    (group,) = make_groups(count=1, size=2, lengths=(6, 6))
    validate_groups([group], VOCABULARY)
    first, second = group.completions
    bad = Group(group.prompt, (first, replace(second, loss_mask=mask)), 7)
    with pytest.raises(BatchError, match=f"group 7, completion 1: .*{says}"):
        validate_groups([bad], VOCABULARY)


def test_logprobs_may_be_positive_by_rounding_only(make_groups: GroupFactory) -> None:
    (group,) = make_groups(count=1, size=1)

    def above_zero(value: float) -> Group:
        c = group.completions[0]
        return replace(group, completions=(replace(c, logprobs=np.full_like(c.logprobs, value)),))

    validate_groups([above_zero(5e-5)], VOCABULARY)
    with pytest.raises(BatchError, match="at most 0"):
        validate_groups([above_zero(5e-4)], VOCABULARY)
