"""The trainer: it learns, resumes bit for bit, streams and exports its weights, and refuses bad input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from learner import (
    STATISTICS,
    BatchError,
    CheckpointError,
    Group,
    LearnerConfig,
    ObjectiveConfig,
    OptimizerConfig,
    SftConfig,
    Trainer,
    supervise,
)

GroupFactory = Callable[..., list[Group]]

CONFIG = LearnerConfig(
    dtype="float32",
    device="cpu",
    micro_batch_tokens=64,
    optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=2),
)


def _weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return dict(trainer.snapshot())


def test_step_reports_every_documented_statistic(tiny_model: Path, make_groups: GroupFactory) -> None:
    trainer = Trainer(CONFIG, tiny_model, seed=0)
    statistics = trainer.train_step(make_groups())
    assert set(statistics) == set(STATISTICS)
    assert all(np.isfinite(v) for v in statistics.values())
    assert trainer.version == 1


def test_resume_is_bit_exact(tiny_model: Path, make_groups: GroupFactory, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"minibatches": 2})
    batches = [make_groups(seed=s) for s in range(6)]
    straight = Trainer(config, tiny_model, seed=1)
    for batch in batches:
        straight.train_step(batch)
    first = Trainer(config, tiny_model, seed=1)
    for batch in batches[:3]:
        first.train_step(batch)
    first.save(tmp_path / "step-3", {"replay": {"position": 3}})
    del first
    second = Trainer(config, tiny_model, seed=1)
    assert second.load(tmp_path / "step-3") == {"replay": {"position": 3}}
    assert second.version == 3
    for batch in batches[3:]:
        second.train_step(batch)
    expected = _weights(straight)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in _weights(second).items())


def test_load_names_what_is_missing(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere is not a checkpoint: learner.json"):
        Trainer(CONFIG, tiny_model, seed=0).load(tmp_path / "nowhere")


def test_micro_batches_do_not_change_the_update(tiny_model: Path, make_groups: GroupFactory) -> None:
    groups = make_groups(count=6)
    one, many = (
        Trainer(CONFIG.model_copy(update={"micro_batch_tokens": n}), tiny_model, seed=0) for n in (100_000, 30)
    )
    a, b = one.train_step(groups), many.train_step(groups)
    assert a["loss"] == pytest.approx(b["loss"], abs=1e-6)
    assert a["gradient_norm"] == pytest.approx(b["gradient_norm"], rel=1e-4)


def test_equal_rewards_change_nothing(tiny_model: Path, make_groups: GroupFactory) -> None:
    groups = [replace(g, completions=tuple(replace(c, reward=1.0) for c in g.completions)) for g in make_groups()]
    trainer = Trainer(CONFIG, tiny_model, seed=0)
    before = _weights(trainer)
    statistics = trainer.train_step(groups)
    assert statistics["optimizer_steps"] == 0 and statistics["trained_tokens"] == 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in _weights(trainer).items())
    assert trainer.version == 1


def test_skipping_silent_groups_is_exact(tiny_model: Path, make_groups: GroupFactory) -> None:
    groups = make_groups(count=3)
    groups[1] = replace(groups[1], completions=tuple(replace(c, reward=0.5) for c in groups[1].completions))
    skipping = Trainer(CONFIG, tiny_model, seed=0)
    kl = ObjectiveConfig(kl="k3", kl_coefficient=1e-30)  # keeps every token in the graph, adds nothing
    complete = Trainer(CONFIG.model_copy(update={"objective": kl}), tiny_model, seed=0)
    a, b = skipping.train_step(groups), complete.train_step(groups)
    assert a["trained_tokens"] < b["trained_tokens"]
    assert a["gradient_norm"] == pytest.approx(b["gradient_norm"], rel=1e-5)


def test_named_tensors_and_export_agree(tiny_model: Path, make_groups: GroupFactory, tmp_path: Path) -> None:
    trainer = Trainer(CONFIG, tiny_model, seed=0)
    trainer.train_step(make_groups())
    tensors = _weights(trainer)
    assert "lm_head.weight" not in tensors, "tied weights appear once"
    assert list(tensors) == [name for name, _ in trainer.named_tensors()]
    trainer.export(tmp_path / "exported")
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "exported")
    assert exported.dtype == torch.float32
    for name, parameter in exported.named_parameters():
        assert torch.equal(parameter, tensors[name])
    assert (tmp_path / "exported" / "tokenizer.json").exists()


def test_snapshot_survives_the_next_step(tiny_model: Path, make_groups: GroupFactory) -> None:
    trainer = Trainer(CONFIG, tiny_model, seed=0)
    snapshot = trainer.snapshot()
    copies = [tensor.clone() for _, tensor in snapshot]
    trainer.train_step(make_groups())
    assert all(torch.equal(tensor, copy) for (_, tensor), copy in zip(snapshot, copies, strict=True))


@pytest.mark.parametrize("field", ["tokens", "logprobs"])
def test_bad_batches_are_refused_before_anything_changes(
    tiny_model: Path, make_groups: GroupFactory, field: str
) -> None:
    groups = make_groups(count=1)
    broken = getattr(groups[0].completions[0], field).copy()
    broken[0] = {"tokens": 9999, "logprobs": np.nan}[field]
    bad = replace(groups[0].completions[0], **{field: broken})
    trainer = Trainer(CONFIG, tiny_model, seed=0)
    with pytest.raises(BatchError, match="group 0, completion 0"):
        trainer.train_step([replace(groups[0], completions=(bad, *groups[0].completions[1:]))])
    assert trainer.version == 0


def test_supervised_cold_start_memorises_and_stops_when_told(tiny_model: Path) -> None:
    random = np.random.default_rng(0)
    examples = [
        (random.integers(0, 64, 4).astype(np.int32), random.integers(0, 64, 6).astype(np.int32)) for _ in range(16)
    ]
    trainer = Trainer(CONFIG, tiny_model, seed=0)
    losses: list[float] = []
    config = SftConfig(learning_rate=5e-3, batch_size=8, epochs=100, check_every=5, warmup_steps=0)
    last = supervise(
        trainer,
        examples,
        config,
        should_stop=lambda step: step >= 60,
        on_step=lambda _, statistics: losses.append(statistics["loss"]),
    )
    assert last["steps"] == 60 and len(losses) == 60
    assert losses[-1] < 0.5 * losses[0]
    assert trainer.version == 0
