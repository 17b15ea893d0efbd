"""Stripes are a partition in runs, cut nothing that belongs together, and are as balanced as that allows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.core_model_loading import Chunk, WeightConverter

from benchmarks.families import FAMILIES, family
from learner import LearnerConfig, Trainer
from learner.model.names import checkpoint_tensors, taken_together
from learner.model.stripes import stripes
from learner.model.weights import keepers

CONFIG = LearnerConfig(dtype="float32", device="cpu", threads=1)
TENSORS = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 9)), max_size=40)


def _uncut(together: list[int]) -> list[set[int]]:
    """The tensors, as the smallest runs that hold whole units."""
    runs: list[set[int]] = []
    for tensor, unit in enumerate(together):
        first = together.index(unit)
        joined = {tensor}.union(*(run for run in runs if max(run) >= first))
        runs = [*(run for run in runs if max(run) < first), joined]
    return runs


@given(TENSORS, st.integers(1, 8))
def test_stripes_are_runs_that_cut_nothing_and_are_balanced(tensors: list[tuple[int, int]], count: int) -> None:
    sizes, together = [size for size, _ in tensors], [unit for _, unit in tensors]
    found = stripes(sizes, together, count)
    assert len(found) == len(tensors)
    assert found == sorted(found)
    assert set(found) <= set(range(count))
    runs = _uncut(together)
    assert all(len({found[tensor] for tensor in run}) == 1 for run in runs)
    largest = max((sum(sizes[tensor] for tensor in run) for run in runs), default=0)
    for stripe in range(count):
        held = sum(size for size, of in zip(sizes, found, strict=True) if of == stripe)
        assert held * count <= sum(sizes) + largest * count


@given(st.lists(st.just(1000), min_size=8, max_size=64), st.integers(1, 8))
def test_equal_tensors_are_shared_out_evenly(sizes: list[int], count: int) -> None:
    found = stripes(sizes, list(range(len(sizes))), count)
    counts = [found.count(stripe) for stripe in range(count)]
    assert max(counts) - min(counts) <= 2


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("count", [2, 3])
def test_stripes_that_are_converted_apart_are_the_checkpoint(name: str, count: int, tmp_path: Path) -> None:
    trainer = Trainer(CONFIG, family(name, tmp_path), seed=0)
    found = keepers(trainer.model, range(count))
    assert found is not None
    assert set(found) == set(range(count))
    whole = dict(trainer.snapshot())
    own = [(n, p.detach()) for n, p in trainer.model.named_parameters()]
    parts: dict[str, torch.Tensor] = {}
    for stripe in range(count):
        share = [tensor for tensor, keeper in zip(own, found, strict=True) if keeper == stripe]
        made = dict(checkpoint_tensors(trainer.model, share))
        assert not parts.keys() & made.keys()
        parts |= made
    assert parts.keys() == whole.keys()
    assert all(torch.equal(parts[n], whole[n]) for n in whole)


def test_what_one_conversion_takes_is_never_cut(tmp_path: Path) -> None:
    """Of a checkpoint with one matrix for gate and up, which the model has as two: several tensors in, one out."""
    trainer = Trainer(CONFIG, family("llama", tmp_path), seed=0)
    fused = WeightConverter("mlp.gate_up_proj.weight", ["mlp.gate_proj.weight", "mlp.up_proj.weight"], [Chunk(dim=0)])
    trainer.model._weight_conversions = [fused]
    own = [(n, p.detach()) for n, p in trainer.model.named_parameters()]
    whole = dict(checkpoint_tensors(trainer.model, own))
    assert "model.layers.1.mlp.gate_up_proj.weight" in whole
    units = dict(zip((n for n, _ in own), taken_together(trainer.model, [n for n, _ in own]), strict=True))
    assert units["model.layers.0.mlp.gate_proj.weight"] == units["model.layers.0.mlp.up_proj.weight"]
    assert len(set(units.values())) == len(units) - 2
    for count in range(2, 12):
        found = keepers(trainer.model, range(count))
        assert found is not None
        parts: dict[str, torch.Tensor] = {}
        for stripe in range(count):
            share = [tensor for tensor, keeper in zip(own, found, strict=True) if keeper == stripe]
            parts |= dict(checkpoint_tensors(trainer.model, share))
        assert parts.keys() == whole.keys()
        assert all(torch.equal(parts[n], whole[n]) for n in whole)
