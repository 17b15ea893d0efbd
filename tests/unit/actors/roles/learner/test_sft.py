"""The cold start from a file of traces: packing, epochs, a held-out loss, and an early stop."""

import json
from pathlib import Path

import pytest

from actors.config.loading import parse
from actors.config.recipe import Recipe
from actors.models import prepare
from actors.roles.learner.sft import cold_start
from actors.tasks import TaskStream
from learner import Trainer


def _recipe(tmp_path: Path, **supervised: object) -> Recipe:
    """Forty sums, each answered twice, and an even simpler model."""
    lines = [
        json.dumps({"prompt": f"{a}+{b}=", "response": answer})
        for a in range(5)
        for b in range(8)
        for answer in (f"<answer>{a + b}</answer>", f"<think>{a}+{b}</think><answer>{a + b}</answer>")
    ]
    (tmp_path / "traces.jsonl").write_text("\n".join(lines))
    tree = {
        "name": "test",
        "steps": 0,
        "model": {"kind": "tiny", "hidden_size": 32, "layers": 1, "heads": 1, "intermediate_size": 32},
        "tasks": {"sources": [{"source": "addition", "digits": 2}], "template": "raw", "held_out": 8},
        "cold_start": {"traces": str(tmp_path / "traces.jsonl"), "held_out": 8, "supervised": supervised},
        "learner": {"dtype": "float32", "device": "cpu", "micro_batch_tokens": 128},
    }
    return parse(tree, "test")


def _run(recipe: Recipe, tmp_path: Path) -> tuple[dict[str, float], list[str]]:
    model = prepare(recipe.model, tmp_path / "models", recipe.seed)
    said: list[str] = []
    trainer = Trainer(recipe.learner, model, recipe.seed)
    stream = TaskStream(recipe.tasks, recipe.seed)
    return cold_start(recipe, trainer, model, stream, said.append), said


def test_traces_are_imitated_for_their_epochs_and_the_held_out_loss_is_told(tmp_path: Path) -> None:
    recipe = _recipe(tmp_path, epochs=5, batch_size=16, learning_rate=1e-2, check_every=5)
    statistics, said = _run(recipe, tmp_path)
    assert statistics["epochs"] == 5
    assert statistics["steps"] == 5 * 64 // 16, "each of the 8 held-out tasks has two traces"
    first, *_, last = [float(text.partition(", ")[2].split()[0]) for text in said]
    assert last < 0.7 * first
    assert "on 16 held-out examples" in said[0]


def test_training_stops_when_the_held_out_loss_stops_falling(tmp_path: Path) -> None:
    recipe = _recipe(tmp_path, epochs=500, batch_size=16, learning_rate=3e-2, check_every=2, patience=2)
    statistics, _ = _run(recipe, tmp_path)
    assert statistics["steps"] < 500 * 4


def test_patience_without_held_out_examples_is_refused() -> None:
    with pytest.raises(ValueError, match="needs held_out above 0"):
        Recipe.model_validate({"cold_start": {"traces": "addition", "supervised": {"patience": 3}}})
