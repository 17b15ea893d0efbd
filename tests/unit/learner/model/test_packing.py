"""Packing: nothing leaks between sequences, nothing is lost, nothing is wasted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from learner.model.packing import Segment, assign_micro_batches, pack, plan_micro_batches
from learner.model.policy import Policy, load_model


def _segments(seed: int, groups: int = 4) -> list[Segment]:
    random = np.random.default_rng(seed)
    segments, index = [], 0
    for _ in range(groups):
        prompt = random.integers(0, 64, int(random.integers(1, 9))).astype(np.int32)
        completions = tuple(
            random.integers(0, 64, int(random.choice([1, 2, 5, 30, 90]))).astype(np.int32)
            for _ in range(int(random.integers(1, 6)))
        )
        segments.append(Segment(prompt, completions, tuple(range(index, index + len(completions)))))
        index += len(completions)
    return segments


def _separately(folder: Path, segments: list[Segment]) -> dict[int, torch.Tensor]:
    """Logprobs of every completion from plain forward passes of the plain model, one sequence at a time."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    out = {}
    for segment in segments:
        for index, completion in zip(segment.indices, segment.completions, strict=True):
            ids = torch.from_numpy(np.concatenate((segment.prompt, completion)).astype(np.int64))[None]
            logp = model(ids).logits[0].log_softmax(-1)[len(segment.prompt) - 1 : -1]
            out[index] = logp.gather(1, ids[0, len(segment.prompt) :, None])[:, 0]
    return out


@pytest.mark.parametrize("seed", range(3))
def test_packed_equals_separate(tiny_model: Path, seed: int) -> None:
    segments = _segments(seed)
    expected = _separately(tiny_model, segments)
    policy = Policy(load_model(tiny_model, torch.device("cpu"))[0], torch.float32, chunk=7)
    for part in plan_micro_batches(segments, budget=100):
        packed = pack(part)
        logp, _ = policy(packed)
        for index, mine in zip(packed.indices, logp.split(packed.lengths.tolist()), strict=True):
            torch.testing.assert_close(mine, expected.pop(index), atol=1e-5, rtol=0)
    assert not expected, "every completion must be in exactly one micro-batch"


def test_packed_gradient_equals_separate(tiny_model: Path) -> None:
    segments = _segments(seed=7)
    reference = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    for segment in segments:
        for completion in segment.completions:
            ids = torch.from_numpy(np.concatenate((segment.prompt, completion)).astype(np.int64))[None]
            logp = reference(ids).logits[0].log_softmax(-1)[len(segment.prompt) - 1 : -1]
            logp.gather(1, ids[0, len(segment.prompt) :, None]).sum().backward()
    model = load_model(tiny_model, torch.device("cpu"))[0]
    Policy(model, torch.float32, chunk=16)(pack(segments))[0].sum().backward()
    for (name, mine), theirs in zip(model.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, atol=2e-3, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


def test_changing_one_completion_leaves_the_others_alone(tiny_model: Path) -> None:
    policy = Policy(load_model(tiny_model, torch.device("cpu"))[0], torch.float32, chunk=64)
    prompt = np.arange(5, dtype=np.int32)
    first, second = np.full(9, 3, dtype=np.int32), np.full(6, 4, dtype=np.int32)
    one = pack([Segment(prompt, (first, second), (0, 1))])
    other = pack([Segment(prompt, (first, np.full(6, 50, dtype=np.int32)), (0, 1))])
    assert torch.equal(policy(one)[0][:9], policy(other)[0][:9])


def test_budget_bounds_micro_batches_and_prompts_are_fed_once() -> None:
    segments = _segments(seed=3, groups=12)
    plan = plan_micro_batches(segments, budget=120)
    assert all(sum(s.size for s in part) <= 120 or len(part) == 1 for part in plan)
    packed = pack(segments)
    assert len(packed.tokens) == sum(len(s.prompt) + sum(len(c) - 1 for c in s.completions) for s in segments)
    assert len(packed.targets) == sum(len(c) for s in segments for c in s.completions)


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
def test_every_micro_batch_goes_to_one_rank_and_all_ranks_get_as_many(ranks: int) -> None:
    plan = plan_micro_batches(_segments(seed=5, groups=10), budget=100)
    parts = [assign_micro_batches(plan, rank, ranks) for rank in range(ranks)]
    assert len({len(own) for own in parts}) == 1, "each forward pass is a collective"
    assert sorted(id(part) for own in parts for part in own if part) == sorted(id(part) for part in plan)
    loads = [sum(s.size for part in own for s in part) for own in parts]
    assert max(loads) - min(loads) <= max(sum(s.size for s in part) for part in plan)


def test_masked_tokens_are_fed_and_predict_nothing(tiny_model: Path) -> None:
    """Their logits get no gradient: the loss of a masked pack is that of the other targets of the full one."""
    random = np.random.default_rng(0)
    full = _segments(seed=4)

    def masked(completion: np.ndarray) -> np.ndarray | None:
        mask = (random.random(len(completion)) < 0.5).astype(np.uint8)
        return mask if mask.any() else None

    segments = [replace(s, loss_masks=tuple(masked(c) for c in s.completions)) for s in full]
    model = load_model(tiny_model, torch.device("cpu"))[0]
    policy = Policy(model, torch.float32, chunk=16)
    every, some = pack(full), pack(segments)
    assert torch.equal(every.tokens, some.tokens) and len(some.targets) < len(every.targets)
    pairs = [pair for s in segments for pair in zip(s.completions, s.loss_masks, strict=True)]
    keep = np.concatenate([np.ones(len(c)) if mask is None else mask for c, mask in pairs])
    kept = torch.from_numpy(np.flatnonzero(keep))
    mine, theirs = policy(some)[0], policy(every)[0][kept]
    torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=0)
    gradients = [torch.autograd.grad(x.sum(), list(model.parameters())) for x in (mine, theirs)]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, atol=2e-3, rtol=1e-4)
    # Splitting a segment keeps every mask with its completion.
    for part in plan_micro_batches(segments, budget=60):
        packed = pack(part)
        for index, targets in zip(packed.indices, packed.targets.split(packed.lengths.tolist()), strict=True):
            place = some.indices.index(index)
            assert torch.equal(targets, some.targets.split(some.lengths.tolist())[place])
