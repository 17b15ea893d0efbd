"""Packing: nothing leaks between sequences, nothing is lost, nothing is wasted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, DeepseekV3Config, Gemma3Config, LlamaConfig, Qwen3Config

from learner.model.flops import StepCost
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
    parts = [assign_micro_batches(plan, rank, ranks, COST) for rank in range(ranks)]
    assert {len(own) for own in parts} == {-(-len(plan) // ranks)}, "each forward pass is a collective"
    assert sorted(id(part) for own in parts for part in own if part) == sorted(id(part) for part in plan)
    loads = [sum(map(spent, own)) for own in parts]
    assert max(loads) - min(loads) <= max(map(spent, plan))


#: Attention is half of what 1,000 tokens cost.
COST = StepCost(parameters=1_000, width=1.0)


def spent(part: list[Segment]) -> float:
    return sum(COST.flops(s.size, s.rows) for s in part)


def lengths(*counts: tuple[int, int]) -> list[list[Segment]]:
    """Micro-batches of (number, length) sequences each."""
    empty = np.zeros(0, np.int32)
    return [[Segment(empty, tuple([np.zeros(n + 1, np.int32)] * count), tuple(range(count)))] for count, n in counts]


def test_what_runs_at_one_time_costs_about_the_same_attention_included() -> None:
    """Eight micro-batches of as many tokens, of which four have one sequence; two and two of a kind run together."""
    plan = lengths((8, 500), (1, 4000), (8, 500), (1, 4000), (1, 4000), (8, 500), (1, 4000), (8, 500))
    assert spent(plan[1]) / spent(plan[0]) == pytest.approx((1 + 4) / (1 + 0.5))
    first, second = (assign_micro_batches(plan, rank, 2, COST) for rank in range(2))
    assert [len(a[0].rows) for a in first] == [len(b[0].rows) for b in second] == [1, 1, 8, 8]


@pytest.mark.parametrize("ranks", [2, 3, 7])
def test_no_assignment_is_shorter_than_rounds_by_cost(ranks: int) -> None:
    """The k-th longest of any rounds is at least as long as what comes k - 1 full rounds after the longest of all."""
    random = np.random.default_rng(ranks)
    plan = lengths(*((1, int(n)) for n in random.pareto(1.5, 40) * 100 + 1))
    parts = [assign_micro_batches(plan, rank, ranks, COST) for rank in range(ranks)]
    rounds = sum(max(map(spent, together)) for together in zip(*parts, strict=True))
    assert rounds == pytest.approx(sum(sorted(map(spent, plan), reverse=True)[::ranks]))
    shuffled = [plan[i] for i in random.permutation(len(plan))] + [[]] * (-len(plan) % ranks)
    others = sum(max(map(spent, shuffled[i : i + ranks])) for i in range(0, len(shuffled), ranks))
    assert rounds < others


@pytest.mark.parametrize(
    ("config", "width"),
    [
        (LlamaConfig(hidden_size=64, num_hidden_layers=3, num_attention_heads=4), 3 * 64),
        (Qwen3Config(hidden_size=64, num_hidden_layers=3, num_attention_heads=4, head_dim=32), 3 * 4 * 32),
        (
            DeepseekV3Config(
                num_hidden_layers=3, num_attention_heads=4, qk_nope_head_dim=32, qk_rope_head_dim=16, v_head_dim=24
            ),
            3 * 4 * (48 + 24) / 2,
        ),
        (Gemma3Config(text_config={"num_hidden_layers": 3, "num_attention_heads": 4, "head_dim": 16}), 3 * 4 * 16),
    ],
)
def test_the_width_of_attention_follows_from_the_configuration(config: Any, width: float) -> None:
    assert StepCost.of(config, 5) == StepCost(5, width)


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
