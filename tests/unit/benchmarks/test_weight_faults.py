"""What the trials of weight updates are made of; the trials themselves are in tests/e2e."""

from collections import Counter

import torch

from benchmarks.weight_faults import ACTIONS, ALL_STEPS, HookedTensors, Trial, plan


def test_every_step_is_hit_in_both_ways_as_evenly_as_the_number_of_trials_allows() -> None:
    counts = Counter(plan(50, seed=3))
    assert set(counts) == {(step, action) for step in ALL_STEPS for action in ACTIONS}
    assert set(counts.values()) == {3, 4}
    assert plan(50, seed=3) == plan(50, seed=3) != plan(50, seed=4)


def test_the_hook_is_called_once_while_the_tensors_are_sent_and_not_while_they_are_described() -> None:
    sent: list[str] = []
    tensors = [(name, torch.zeros(1)) for name in "abc"]
    hooked = HookedTensors(tensors, 1, lambda: sent.append("hook"))
    assert [name for name, _ in hooked] == ["a", "b", "c"]
    assert sent == []
    sent += [name for name, _ in hooked]
    sent += [name for name, _ in hooked]
    assert sent == ["hook", *"abcabc"]


def test_a_trial_is_good_where_both_had_the_right_weights_in_time() -> None:
    assert Trial("after open", "kill", 1.0, 2.0, 1, "").good
    assert not Trial("after open", "kill", None, 2.0, 1, "").good
    assert not Trial("after open", "kill", 1.0, None, 1, "").good
    assert not Trial("after open", "kill", 1.0, 2.0, 1, "engine-1 holds other weights").good
