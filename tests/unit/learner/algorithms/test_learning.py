"""Every objective learns a bandit-like task, and corrections save it from stale tokens (`learner_check`)."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest
import torch

from benchmarks import learner_check as check
from learner.objective import PRESETS


@pytest.fixture(scope="module")
def bandit_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return check.make_model(tmp_path_factory.mktemp("bandit"))


@pytest.mark.parametrize("name", PRESETS)
def test_every_objective_improves_reward(bandit_model: Path, name: str) -> None:
    rewards = check.train(bandit_model, check.OBJECTIVES[name], delay=0, seed=0, steps=40, rate=3e-3)
    assert rewards[0] < 0.2
    assert statistics.mean(rewards[-5:]) > 0.7


def test_corrected_objectives_survive_tokens_eight_versions_old(bandit_model: Path) -> None:
    def late(objective: dict[str, object]) -> float:
        return statistics.mean(check.train(bandit_model, objective, delay=8, seed=0, steps=80, rate=3e-3)[-20:])

    uncorrected = late(check.UNCORRECTED)
    for name in ("reinforce", "decoupled_ppo"):
        assert late(check.OBJECTIVES[name]) > uncorrected + 0.05, name


def test_the_benchmark_says_how_far_each_objective_got(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = check.run(tmp_path / "figures.json", steps=2, seeds=1)
    assert json.loads((tmp_path / "figures.json").read_text()) == result
    assert set(PRESETS) < set(result["fresh"]) < set(result["stale"])
    assert result["least_gain"] <= min(row["end"][0] - row["start"][0] for row in result["fresh"].values())
    assert set(result["leads"]) == set(result["stale"]) - {"uncorrected"}
    assert "better with" in capsys.readouterr().out
