"""The objective's keys: each reaches the trainer from the command line and changes the update, or is refused."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
import yaml

from actors.cli import main
from actors.config.loading import load
from actors.models import tiny
from learner import Completion, LearnerConfig, ObjectiveConfig, Trainer
from learner.objective import (
    PRESETS,
    Advantage,
    Aggregation,
    Correction,
    Divergence,
    Loss,
    Name,
    TokenDivergence,
)
from tests.unit.learner.conftest import GroupFactory

QUICKSTART = Path(__file__).parents[3] / "recipes" / "quickstart.yaml"
PREFIX = "learner.objective."

PROXIMAL = {"name": "decoupled_ppo", "correction_high": "2"}
KL = {"kl": "k3", "kl_coefficient": "0.1"}
# key -> what it needs beside it, and a value that is not its default
KEYS: dict[str, tuple[dict[str, str], str]] = {
    "name": ({}, "dapo"),
    "loss": ({}, "cispo"),
    "advantage": ({}, "mean"),
    "part_weights": ({"name": "gdpo"}, "{accuracy: 1, short: 0.1}"),
    "aggregation": ({}, "token"),
    "constant_length": ({"aggregation": "constant"}, "16"),
    "old_policy": ({}, "proximal"),
    "clip_low": ({}, "0.5"),
    "clip_high": ({}, "0.5"),
    "dual_clip": ({}, "3"),
    "divergence": ({"name": "dppo", "divergence_bound": "0.02"}, "kl"),
    "divergence_bound": ({"name": "dppo"}, "0.01"),
    "gate_positive": ({"name": "sapo"}, "3"),
    "gate_negative": ({"name": "sapo"}, "3"),
    "covariance_share": ({"name": "kl_cov"}, "0.5"),
    "covariance_low": ({"name": "clip_cov", "covariance_share": "1"}, "0"),
    "covariance_high": ({"name": "clip_cov", "covariance_share": "1"}, "1.5"),
    "covariance_penalty": ({"name": "kl_cov"}, "0.1"),
    "log_ratio_penalty": ({}, "0.1"),
    "correction": ({"old_policy": "proximal"}, "icepop"),
    "correction_low": ({**PROXIMAL, "correction": "icepop"}, "0.9"),
    "correction_high": (PROXIMAL, "1.1"),
    "correction_divergence": ({**PROXIMAL, "correction": "kpop"}, "0.9"),
    "kl": (KL, "k1"),
    "kl_coefficient": (KL, "0.2"),
    "reference_refresh_steps": (KL, "1"),
    "entropy_coefficient": ({}, "0.1"),
    "max_token_age": ({}, "1"),
    "age_half_life": ({}, "2"),
    "mask_truncated": ({}, "true"),
}
CHOICES: list[tuple[str, str, dict[str, str]]] = [
    *(("name", name, {}) for name in get_args(Name)),
    *(("loss", name, {}) for name in get_args(Loss)),
    *(("advantage", name, {}) for name in get_args(Advantage)),
    *(("aggregation", name, {}) for name in get_args(Aggregation)),
    *(("correction", name, {"old_policy": "proximal"}) for name in get_args(Correction)),
    *(("divergence", name, {"name": "dppo"}) for name in get_args(TokenDivergence)),
    *(("kl", name, {"kl_coefficient": "0" if name == "none" else "0.1"}) for name in get_args(Divergence)),
]


def _overrides(objective: dict[str, str], teacher: Path = Path("teacher")) -> list[str]:
    taught = {"opd", "teacher"} & set(objective.values())
    return [f"{PREFIX}{key}={value}" for key, value in {"name": "grpo", **objective}.items()] + (
        [f"distillation.teacher={teacher}"] if taught else []
    )


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a teacher, as far as it is looked at before a run starts."""
    folder = tmp_path_factory.mktemp("teacher")
    tiny.tokenizer(256).save_pretrained(folder)
    (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}')
    return folder


def _with_parts(completion: Completion) -> Completion:
    parts = {"accuracy": completion.reward, "short": float(len(completion.tokens) < 10)}
    return replace(completion, parts=parts, teacher_logprobs=completion.logprobs * np.float32(0.5))


def _weights(config: LearnerConfig, model: Path, make_groups: GroupFactory) -> torch.Tensor:
    """The parameters after three steps on stale, off-policy, ragged and partly truncated batches."""
    trainer = Trainer(config, model, seed=0)
    for step in range(3):
        groups = make_groups(seed=step, version=step, age=4)
        trainer.train_step([replace(g, completions=tuple(map(_with_parts, g.completions))) for g in groups])
    return torch.cat([tensor.flatten() for _, tensor in trainer.named_tensors()])


@pytest.mark.parametrize(("key", "value", "beside"), CHOICES, ids=lambda x: x if isinstance(x, str) else "")
def test_check_accepts_every_name_and_shows_it(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    teacher: Path,
    key: str,
    value: str,
    beside: dict[str, str],
) -> None:
    overrides = [part for override in _overrides({**beside, key: value}, teacher) for part in ("-s", override)]
    monkeypatch.setattr("sys.argv", ["leeway", "check", str(QUICKSTART), *overrides])
    main()
    shown = yaml.safe_load(capsys.readouterr().out)["learner"]["objective"]
    assert shown[key] == value
    if key == "name":
        assert all(shown[part] == setting for part, setting in PRESETS[value].items())


def test_no_key_is_left_out() -> None:
    assert set(KEYS) == set(ObjectiveConfig.model_fields)


@pytest.mark.parametrize("key", KEYS)
def test_every_key_changes_the_update(tiny_model: Path, make_groups: GroupFactory, key: str) -> None:
    beside, value = KEYS[key]
    before, after = (
        _weights(load(QUICKSTART, _overrides(objective)).learner, tiny_model, make_groups)
        for objective in (beside, {**beside, key: value})
    )
    assert torch.isfinite(after).all()
    assert not torch.equal(before, after), f"{PREFIX}{key} is ignored"


def test_every_objective_makes_an_update_of_its_own(tiny_model: Path, make_groups: GroupFactory) -> None:
    updates = [
        _weights(load(QUICKSTART, _overrides({"name": name})).learner, tiny_model, make_groups)
        for name in get_args(Name)
    ]
    for (one, mine), (other, theirs) in itertools.combinations(zip(get_args(Name), updates, strict=True), 2):
        assert not torch.equal(mine, theirs), f"{one} trains as {other} does"


def test_contradictory_objectives_are_refused() -> None:
    with pytest.raises(ValueError, match="corrected twice"):
        ObjectiveConfig(name="grpo", correction="token_tis")
    with pytest.raises(ValueError, match="go together"):
        ObjectiveConfig(kl="k3")


@pytest.mark.parametrize("loss", ["gspo", "clip_cov", "kl_cov"])
def test_a_teachers_advantage_is_of_tokens(loss: str) -> None:
    with pytest.raises(ValueError, match=f"loss: {loss} takes one of a completion"):
        ObjectiveConfig(loss=loss, advantage="teacher")
    assert not ObjectiveConfig(name="opd").zero_advantage_is_silent
