"""Supervised fine-tuning: it learns, and stops when it should."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from learner import LearnerConfig, ObjectiveConfig, OptimizerConfig, SftConfig, Trainer, train_sft
from learner.config import LoraSettings
from tests.unit.learner.conftest import GroupFactory

CONFIG = LearnerConfig(
    dtype="float32", device="cpu", micro_batch_tokens=200, optimizer=OptimizerConfig(learning_rate=1e-2)
)


def _ids(random: np.random.Generator, length: int, low: int = 0, high: int = 64) -> np.ndarray:
    return random.integers(low, high, length).astype(np.int32)


def test_cold_start_memorises_and_stops_when_told(tiny_model: Path) -> None:
    random = np.random.default_rng(0)
    examples = [(_ids(random, 4), _ids(random, 6)) for _ in range(16)]
    trainer = Trainer(CONFIG, tiny_model, seed=0)
    losses: list[float] = []
    last = train_sft(
        trainer,
        examples,
        SftConfig(learning_rate=5e-3, batch_size=8, epochs=100, check_every=5, warmup_steps=0),
        should_stop=lambda step: step >= 60,
        on_step=lambda _, statistics: losses.append(statistics["loss"]),
    )
    assert last["steps"] == 60 and len(losses) == 60
    assert losses[-1] < 0.5 * losses[0]
    assert trainer.version == 0


def test_nothing_is_checked_before_the_first_check(tiny_model: Path) -> None:
    random = np.random.default_rng(0)
    asked: list[int] = []
    config = SftConfig(batch_size=1, check_every=2, check_from=5)
    examples = [(_ids(random, 2), _ids(random, 2)) for _ in range(9)]
    train_sft(Trainer(CONFIG, tiny_model, seed=0), examples, config, should_stop=lambda step: bool(asked.append(step)))
    assert asked == [6, 8]


def test_cold_start_stops_when_the_held_out_loss_stops_falling(tiny_model: Path) -> None:
    random = np.random.default_rng(0)
    noise = [(_ids(random, 4), _ids(random, 6)) for _ in range(8)]
    unseen = [(_ids(random, 4), _ids(random, 6)) for _ in range(8)]
    config = SftConfig(learning_rate=1e-2, batch_size=8, epochs=500, check_every=1, patience=3, warmup_steps=0)
    last = train_sft(Trainer(CONFIG, tiny_model, seed=0), noise, config, held_out=unseen)
    assert last["steps"] < 100, "memorising noise cannot lower the loss on other noise for long"
    assert last["held_out_loss"] > last["loss"]


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=4), LoraSettings(rank=4, broadcast="adapters")])
def test_the_reference_is_the_policy_after_the_cold_start_also_in_a_resumed_run(
    tiny_model: Path, make_groups: GroupFactory, tmp_path: Path, lora: LoraSettings | None
) -> None:
    objective = ObjectiveConfig(kl="k3", kl_coefficient=0.1)
    config = CONFIG.model_copy(update={"lora": lora, "objective": objective})
    trainer = Trainer(config, tiny_model, seed=0)
    random = np.random.default_rng(0)
    examples = [(_ids(random, 4), _ids(random, 6)) for _ in range(16)]
    train_sft(trainer, examples, SftConfig(learning_rate=1e-2, batch_size=8, epochs=5, warmup_steps=0))
    assert trainer.train_step(make_groups(seed=0))["kl"] == pytest.approx(0.0, abs=1e-6)
    trainer.save(tmp_path / "step-000001", {})
    resumed = Trainer(config, tiny_model, seed=0)
    resumed.load(tmp_path / "step-000001")
    expected = trainer.train_step(make_groups(seed=0))["kl"]
    assert resumed.train_step(make_groups(seed=0))["kl"] == pytest.approx(expected)
    assert expected > 1e-4, "the policy has moved away, and the reference has not"
