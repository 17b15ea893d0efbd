"""From a run folder to an exported one."""

import hashlib
import json
from pathlib import Path

import pytest

from actors.config.loading import RECIPE, dump, load
from actors.errors import RecipeError
from actors.events import Phase
from actors.export.export import CARD, export, run_of

QUICKSTART = Path(__file__).parents[4] / "recipes" / "quickstart.yaml"


def a_run(folder: Path, phase: str = "finished") -> Path:
    (folder / "model").mkdir(parents=True)
    (folder / RECIPE).write_text(dump(load(QUICKSTART)))
    (folder / "metrics.jsonl").write_text(Phase(name=phase).model_dump_json() + "\n")
    (folder / "inputs.json").write_text("{}")
    (folder / "model" / "config.json").write_text(json.dumps({"_name_or_path": str(folder), "hidden_size": 4}))
    (folder / "model" / "model.safetensors").write_bytes(b"weights" * 1000)
    (folder / "token").write_text("secret")
    return folder


def a_checkpoint(run: Path) -> Path:
    folder = run / "checkpoints" / "step-000020"
    folder.mkdir(parents=True)
    (folder / "learner.json").write_text(json.dumps({"files": {}, "extra": {}}))
    return folder


def nobody(*_: object) -> None:
    raise AssertionError("nothing is to be written from a checkpoint")


def test_the_weights_are_copied_as_they_are_and_named_by_hash(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run")
    files = export(run, tmp_path / "out", None, nobody)
    weights = (run / "model" / "model.safetensors").read_bytes()
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == weights
    assert files["model.safetensors"] == hashlib.sha256(weights).hexdigest()
    assert files["model.safetensors"] in (tmp_path / "out" / CARD).read_text()


def test_neither_places_nor_tokens_leave_the_machine(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run")
    export(run, tmp_path / "out", None, nobody)
    for path in (tmp_path / "out").iterdir():
        text = path.read_bytes()
        assert str(tmp_path).encode() not in text
        assert str(Path.cwd()).encode() not in text
        assert b"secret" not in text
    assert json.loads((tmp_path / "out" / "config.json").read_text()) == {"hidden_size": 4}


def test_a_run_that_has_not_finished_is_refused_and_its_checkpoint_is_not(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", "training")
    with pytest.raises(RecipeError, match=r"it is at: training.*--resume"):
        export(run, tmp_path / "out", None, nobody)
    a_checkpoint(run)
    with pytest.raises(RecipeError, match="--checkpoint step-000020"):
        export(run, tmp_path / "out", None, nobody)
    assert not (tmp_path / "out").exists()

    def write(_: object, checkpoint: Path, folder: Path) -> None:
        (folder / "config.json").write_text("{}")
        (folder / "from").write_text(checkpoint.name)

    export(run, tmp_path / "out", "step-000020", write)
    assert (tmp_path / "out" / "from").read_text() == "step-000020"
    assert "checkpoint of step 20 of 100" in (tmp_path / "out" / CARD).read_text()


def test_a_folder_that_is_in_use_stays_as_it_is(tmp_path: Path) -> None:
    run, target = a_run(tmp_path / "run"), tmp_path / "out"
    target.mkdir()
    (target / "mine").write_text("mine")
    with pytest.raises(RecipeError, match="is there already"):
        export(run, target, None, nobody)
    assert [path.name for path in target.iterdir()] == ["mine"]


def test_of_a_pipeline_the_last_stage_is_meant_or_the_named_one(tmp_path: Path) -> None:
    for name in ("01-cold-start", "02-rl", "10-distill", "notes"):
        (tmp_path / name).mkdir()
    assert run_of(tmp_path, None).name == "10-distill"
    assert run_of(tmp_path, "rl").name == run_of(tmp_path, "02-rl").name == "02-rl"
    with pytest.raises(RecipeError, match="01-cold-start, 02-rl, 10-distill"):
        run_of(tmp_path, "sft")
    with pytest.raises(RecipeError, match="neither a run folder"):
        run_of(tmp_path / "notes", None)
    with pytest.raises(RecipeError, match="is one run"):
        run_of(a_run(tmp_path / "run"), "rl")
