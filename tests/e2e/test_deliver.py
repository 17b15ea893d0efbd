"""A model that a run left: exported, loaded by transformers, and talked to over a pipe."""

from pathlib import Path

from typer.testing import CliRunner

from actors.cli import app
from actors.config.loading import RECIPE, dump, load
from actors.config.model import TinyModel
from actors.events import EvaluationDone, Phase
from actors.models import tiny

QUICKSTART = Path(__file__).parents[2] / "recipes" / "quickstart.yaml"


def test_an_exported_model_loads_and_answers(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run, target = tmp_path / "run", tmp_path / "exported"
    (run / "model").mkdir(parents=True)
    tiny.write(TinyModel(kind="tiny", hidden_size=64, heads=2, intermediate_size=64), run / "model", seed=0)
    (run / RECIPE).write_text(dump(load(QUICKSTART)))
    evaluation = EvaluationDone(version=100, name="after", pass_at_1=0.9, n=256, k=4, version_min=100, version_max=100)
    events = (evaluation, Phase(name="finished"))
    (run / "metrics.jsonl").write_text("".join(f"{event.model_dump_json()}\n" for event in events))

    exported = CliRunner().invoke(app, ["export", str(run), str(target)], catch_exceptions=False)
    assert exported.exit_code == 0
    assert "| after | 256 | 4 | 90.0% |" in (target / "README.md").read_text()
    assert AutoModelForCausalLM.from_pretrained(target).config.hidden_size == 64
    assert AutoTokenizer.from_pretrained(target).decode([4]) == "<think>"

    options = ["--template", "raw", "--max-tokens", "8", "--seed", "1"]
    answered = CliRunner().invoke(app, ["chat", str(target), *options], input="12+30=\n", catch_exceptions=False)
    assert answered.exit_code == 0
    assert answered.output.strip()
    assert "\x1b" not in answered.output
