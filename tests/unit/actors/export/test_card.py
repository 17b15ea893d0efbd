"""What a model card says."""

from pathlib import Path
from typing import Any

import yaml

from actors.config.loading import load
from actors.events import EvaluationDone
from actors.export.card import Provenance, card

RECIPES = Path(__file__).parents[4] / "recipes"


def evaluation(**changes: Any) -> EvaluationDone:
    fields = {"version": 4, "name": "after", "pass_at_1": 0.5, "n": 64, "k": 4, "version_min": 4, "version_max": 4}
    return EvaluationDone.model_validate(fields | changes)


def made(recipe: str = "smollm2-arithmetic", *overrides: str, **changes: Any) -> str:
    settings: dict[str, Any] = {
        "step": 40,
        "finished": True,
        "evaluations": [evaluation(name="before", pass_at_1=0.25), evaluation(maj_at_k=0.75)],
        "inputs": {"tasks.sources.0.path": "ab" * 32},
        "files": {"model.safetensors": "cd" * 32},
        "versions": {"torch": "2.13.0"},
    }
    return card(Provenance(recipe=load(RECIPES / f"{recipe}.yaml", overrides), **{**settings, **changes}))


def test_it_says_what_was_done_and_on_what() -> None:
    text = made()
    front = yaml.safe_load(text.split("---")[1])
    assert front["base_model"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert front["license"] == "apache-2.0"
    assert front["pipeline_tag"] == "text-generation"
    assert "40 optimizer steps" in text
    assert "`grpo`" in text
    assert "`reasoning_gym`, family chain_sum" in text
    for hash_ in ("ab" * 32, "cd" * 32):
        assert hash_ in text
    assert "## Limitations" in text
    assert "torch 2.13.0" in text
    assert str(Path.cwd()) not in text


def test_it_says_who_judged() -> None:
    judge = "preferences.judge={url: 'http://judge', model: a|b, criteria: {brevity: '{answer}'}}"
    assert "- what a\\|b judges by brevity beside the rules" in made("smollm2-arithmetic", judge)
    taught = made(
        "smollm2-arithmetic", "distillation.teacher=/t", "learner.objective.name=opd", "replay.drop_zero_variance=false"
    )
    assert "- on-policy distillation: a teacher's" in taught and "- rewards:" not in taught
    pairs = made("smollm2-arithmetic", "preferences.pairs=pairs.jsonl")
    assert "- a learned reward from preference pairs beside the rules" in pairs


def test_the_table_has_what_was_measured_and_no_column_without_a_value() -> None:
    text = made()
    assert "| before | 64 | 4 | 25.0% | – |" in text
    assert "| after | 64 | 4 | 50.0% | 75.0% |" in text
    assert "format |" not in text.split("## Evaluation")[1].split("## Data")[0]
    assert "no evaluation" in made(evaluations=[])


def test_what_a_name_holds_breaks_neither_table_nor_terminal() -> None:
    text = made(evaluations=[evaluation(name="a|b\n\x1b[31m")])
    assert "a\\|b" in text
    assert "\x1b" not in text


def test_a_model_from_scratch_has_no_base_and_no_license() -> None:
    front = yaml.safe_load(made("quickstart").split("---")[1])
    assert "base_model" not in front
    assert "license" not in front
    assert "license is not known" in made("quickstart")


def test_a_checkpoint_is_said_to_be_one() -> None:
    assert "checkpoint of step 20 of 40, not the end" in made(step=20, finished=False)
