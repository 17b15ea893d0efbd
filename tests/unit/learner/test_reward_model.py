"""The reward model: it learns preferences, scores, exports, and refuses what it cannot read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from learner import (
    BatchError,
    LearnerConfig,
    ModelError,
    NonFiniteError,
    OptimizerConfig,
    RewardModel,
    SftConfig,
    evaluate_preferences,
    train_reward_model,
)

CONFIG = LearnerConfig(
    dtype="float32", device="cpu", micro_batch_tokens=200, optimizer=OptimizerConfig(learning_rate=1e-2)
)


def _ids(random: np.random.Generator, length: int, low: int = 0, high: int = 64) -> np.ndarray:
    return random.integers(low, high, length).astype(np.int32)


def test_reward_model_learns_a_preference_and_exports(tiny_model: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)

    def pair() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        # Preferred answers end in a small token id: only a model that reads the last token can tell.
        chosen, rejected = _ids(random, int(random.integers(1, 8))), _ids(random, int(random.integers(1, 8)))
        chosen[-1], rejected[-1] = random.integers(0, 8), random.integers(32, 64)
        return _ids(random, 5), chosen, rejected

    model = RewardModel(CONFIG, tiny_model, seed=0)
    held_out = [pair() for _ in range(32)]
    config = SftConfig(learning_rate=3e-3, batch_size=16, epochs=6, warmup_steps=0)
    train_reward_model(model, [pair() for _ in range(128)], config)
    assert evaluate_preferences(model, held_out)["accuracy"] >= 0.9
    model.export(tmp_path / "reward")
    exported = AutoModelForSequenceClassification.from_pretrained(tmp_path / "reward", pad_token_id=0)
    again = RewardModel(CONFIG, tmp_path / "reward", seed=1)
    assert evaluate_preferences(again, held_out) == evaluate_preferences(model, held_out)
    prompt, chosen, rejected = held_out[0]
    mine = model.score([(prompt, chosen), (prompt, rejected)])
    for answer, score in zip((chosen, rejected), mine, strict=True):
        ids = torch.from_numpy(np.concatenate((prompt, answer)).astype(np.int64))[None]
        hidden = exported.model(ids).last_hidden_state[0, -1]
        assert exported.score(hidden).item() == pytest.approx(float(score), abs=1e-4)


def test_answers_to_one_prompt_are_scored_as_if_alone(tiny_model: Path) -> None:
    random = np.random.default_rng(0)
    model = RewardModel(CONFIG, tiny_model, seed=0)
    prompts = [_ids(random, 5), _ids(random, 3)]
    examples = [(prompts[i % 2], _ids(random, int(random.integers(1, 9)))) for i in range(7)]
    alone = [float(model.score([example])[0]) for example in examples]
    assert model.score(examples).tolist() == pytest.approx(alone, abs=1e-5)


def test_a_torn_reward_model_is_named(tiny_model: Path, tmp_path: Path) -> None:
    RewardModel(CONFIG, tiny_model, seed=0).export(tmp_path / "reward")
    weights = tmp_path / "reward" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match=r"reward cannot be loaded"):
        RewardModel(CONFIG, tmp_path / "reward", seed=0)


def test_an_answer_that_the_reward_model_cannot_read_is_refused(tiny_model: Path) -> None:
    model = RewardModel(CONFIG, tiny_model, seed=0)
    assert model.max_length is not None
    prompt, answer = np.zeros(4, np.int32), np.zeros(model.max_length - 4, np.int32)
    assert model.fits(prompt, answer) and np.isfinite(model.score([(prompt, answer)])).all()
    longer = np.append(answer, np.int32(0))
    assert not model.fits(prompt, answer, longer)
    with pytest.raises(BatchError, match=f"{model.max_length} at most"):
        model.score([(prompt, longer)])


def test_reward_model_stops_when_the_held_out_loss_stops_falling(tiny_model: Path) -> None:
    random = np.random.default_rng(0)
    noise, unseen = ([(_ids(random, 3), _ids(random, 4), _ids(random, 4)) for _ in range(8)] for _ in range(2))
    config = SftConfig(learning_rate=1e-2, batch_size=8, epochs=500, check_every=1, patience=3, warmup_steps=0)
    last = train_reward_model(RewardModel(CONFIG, tiny_model, seed=0), noise, config, held_out=unseen)
    assert last["steps"] < 100, "memorising labels set at chance cannot predict others"
    assert last["accuracy"] > 0.9 and last["held_out_loss"] > last["loss"]


def test_a_damaged_reward_model_is_not_trained_on(tiny_model: Path) -> None:
    random = np.random.default_rng(0)
    model = RewardModel(CONFIG, tiny_model, seed=0)
    with torch.no_grad():
        model.model.score.weight.fill_(torch.inf)
    with pytest.raises(NonFiniteError, match="supervised step 1"):
        train_reward_model(model, [(_ids(random, 3), _ids(random, 4), _ids(random, 4))], SftConfig())
