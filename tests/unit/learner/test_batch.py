"""Batches: what is refused before it is trained on, and what a saved batch holds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from learner import BatchError, Group
from learner.batch import load_groups, save_groups, validate_groups
from tests.unit.learner.conftest import VOCABULARY, GroupFactory
from tests.unit.learner.mixtures import routed


def test_saved_groups_come_back(make_groups: GroupFactory, tmp_path: Path) -> None:
    masked = make_groups(count=2, masked=0.5)
    (plain,) = make_groups(count=1, seed=9)
    taught = tuple(replace(c, teacher_logprobs=c.logprobs - 1) for c in plain.completions)
    (replayed,) = routed(make_groups(count=1, seed=3))
    groups = [*masked, replace(plain, id=2, completions=taught), replace(replayed, id=3)]
    save_groups(groups, tmp_path / "batch.npz")
    loaded = load_groups(tmp_path / "batch.npz")
    assert [g.id for g in loaded] == [0, 1, 2, 3]
    for before, after in zip(groups, loaded, strict=True):
        assert np.array_equal(before.prompt, after.prompt)
        for mine, theirs in zip(before.completions, after.completions, strict=True):
            for field in ("tokens", "logprobs", "versions"):
                assert np.array_equal(getattr(mine, field), getattr(theirs, field)), field
            assert (mine.reward, mine.truncated) == (theirs.reward, theirs.truncated)
            assert np.array_equal(mine.unmasked(mine.tokens), theirs.unmasked(theirs.tokens))
    assert all(c.loss_mask is None for c in loaded[2].completions)
    assert all(c.teacher_logprobs is None for g in loaded[:2] for c in g.completions)
    assert all(c.routed_experts is None for g in loaded[:3] for c in (g, *g.completions))
    for mine, theirs in zip((replayed, *replayed.completions), (loaded[3], *loaded[3].completions), strict=True):
        assert theirs.routed_experts is not None and theirs.routed_experts.dtype == np.uint8
        assert np.array_equal(mine.routed_experts, theirs.routed_experts)
    for mine, theirs in zip(taught, loaded[2].completions, strict=True):
        assert np.array_equal(mine.teacher_logprobs, theirs.teacher_logprobs)


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


@pytest.mark.parametrize("wrong", [np.nan, -np.inf, 0.5])
def test_bad_logprobs_of_a_teacher_are_refused(make_groups: GroupFactory, wrong: float) -> None:
    (group,) = make_groups(count=1, size=1, lengths=(6, 6))
    (completion,) = group.completions

    def taught(logprobs: np.ndarray) -> Group:
        return replace(group, completions=(replace(completion, teacher_logprobs=logprobs),))

    validate_groups([taught(completion.logprobs)], VOCABULARY)
    bad = completion.logprobs.copy()
    bad[3] = wrong
    for logprobs in (bad, completion.logprobs[1:]):
        with pytest.raises(BatchError, match="the teacher's logprobs must be finite, at most 0, and one of each token"):
            validate_groups([taught(logprobs)], VOCABULARY)


def test_logprobs_may_be_positive_by_rounding_only(make_groups: GroupFactory) -> None:
    (group,) = make_groups(count=1, size=1)

    def above_zero(value: float) -> Group:
        c = group.completions[0]
        return replace(group, completions=(replace(c, logprobs=np.full_like(c.logprobs, value)),))

    validate_groups([above_zero(5e-5)], VOCABULARY)
    with pytest.raises(BatchError, match="at most 0"):
        validate_groups([above_zero(5e-4)], VOCABULARY)
