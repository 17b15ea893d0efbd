"""A run whose reward is learned from preferences: what it reports, and that the policy follows it."""

import json
import random
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Run, starting
from tests.e2e.test_run import Start, usable

pytestmark = pytest.mark.e2e

WEIGHT, CLIP = 0.5, 2.0


def digits_over_letters(path: Path, count: int) -> None:
    """Pairs that prefer any digits to any letters, whatever was asked."""
    draw = random.Random(0)
    lines = []
    for _ in range(count):
        chosen, rejected = ("".join(draw.choices(a, k=draw.randint(4, 22))) for a in ("0123456789", "abcdefghijklmnop"))
        prompt = f"{draw.randint(100, 999)}+{draw.randint(100, 999)}="
        lines.append(json.dumps({"prompt": prompt, "chosen": chosen, "rejected": rejected}))
    path.write_text("\n".join(lines))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run that is over, whose pairs are gone, too."""
    folder = tmp_path_factory.mktemp("preferences")
    pairs = folder / "pairs.jsonl"
    digits_over_letters(pairs, 320)
    changes: dict[str, str] = {
        "steps": "20",
        "cold_start": "null",
        "rewards.weights.accuracy": "0",
        "rewards.weights.format": "0",
        "rewards.format": "none",
        "learner.objective.name": "grpo",
        "learner.optimizer.learning_rate": "2e-3",
        "learner.optimizer.warmup_steps": "0",
        "learner.optimizer.decay_steps": "0",
        "evaluation.every_steps": "0",
        "checkpoint_every_steps": "20",
        "preferences.pairs": str(pairs),
        "preferences.held_out": "64",
        "preferences.weight": str(WEIGHT),
        "preferences.clip": str(CLIP),
        "preferences.supervised.max_steps": "20",
        "preferences.supervised.learning_rate": "1e-3",
        "preferences.supervised.epochs": "20",
    }
    with starting(folder) as start:
        run = start(**changes)
        assert run.end() == 0, run.text()[-3000:]
        pairs.unlink()
        yield run


def test_a_run_learns_what_its_pairs_prefer(finished: Run) -> None:
    run = finished
    assert "reward model: step 20: loss " in run.text()
    assert "held-out pairs in the right order" in run.text()
    summary = usable(run)
    assert summary["steps"] == 20
    assert summary["reward_model"]["accuracy"] > 0.9 and summary["reward_model"]["n"] >= 60
    preferred = [e["statistics"]["reward/preference"] for e in run.events() if e["kind"] == "step"]
    assert len(preferred) == 20
    assert statistics.mean(preferred[-3:]) > statistics.mean(preferred[:3]) + 1, preferred
    assert summary["held_out"]["after"]["pass_at_1"] == 0, "an evaluation is accuracy, and preferences are none of it"
    check_samples(run.folder)


def test_it_goes_on_with_its_reward_model_without_the_pairs(finished: Run, start: Start) -> None:
    run, before = finished, usable(finished)
    trained = (run.folder / "reward-model" / "model.safetensors").stat().st_mtime_ns
    again = start(["--resume", str(run.folder), "-s", "steps=22"])
    again.output = run.output
    assert again.end() == 0, again.text()[-3000:]
    steps = [e for e in again.events() if e["kind"] == "step"]
    assert len(steps) == 22 and all("reward/preference" in e["statistics"] for e in steps)
    assert (run.folder / "reward-model" / "model.safetensors").stat().st_mtime_ns == trained
    assert usable(again)["reward_model"] == before["reward_model"]


def check_samples(folder: Path) -> None:
    """The best and the worst of a group differ by the weighted difference of their scores, within the bound."""
    samples: list[dict[str, Any]] = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    assert samples
    for best, worst in zip(samples[::2], samples[1::2], strict=True):
        assert best["prompt"] == worst["prompt"]
        assert best["parts"]["preference"] >= worst["parts"]["preference"]
        apart = best["parts"]["preference"] - worst["parts"]["preference"]
        assert 0 <= best["reward"] - worst["reward"] <= min(WEIGHT * apart, 2 * WEIGHT * CLIP) + 1e-6
        assert abs(best["reward"]) <= WEIGHT * CLIP + 1e-9
