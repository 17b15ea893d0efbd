"""What a pipeline refuses before anything starts, what it may find missing, and what it finds done."""

import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from actors import pipeline as pipelines
from actors.config.loading import RECIPE, dump
from actors.config.model import TinyModel
from actors.config.pipeline import Pipeline, load_pipeline
from actors.control import reaper
from actors.control.supervisor import what_next
from actors.deadline import until
from actors.errors import RecipeError
from actors.events import Phase
from actors.models import tiny
from actors.pipeline import RECORD, check, open_pipeline, run
from actors.stages.identity import identities
from learner.extra import META
from sandbox.interrupts import Interrupts
from tests.sources import ROOT

COMMON: dict[str, Any] = {
    "model": {"kind": "tiny"},
    "tasks": {
        "sources": [{"source": "addition", "digits": 2}],
        "template": "raw",
        "held_out": 8,
        "development": 8,
        "max_prompt_tokens": 16,
    },
    "generators": {"engine": "transformers"},
}
COLD: dict[str, Any] = {"name": "cold", "kind": "sft", "recipe": {"cold_start": {"traces": "addition"}}}
RL: dict[str, Any] = {"name": "rl", "kind": "rl", "model": "cold", "recipe": {"steps": 3}}
JUDGE: dict[str, Any] = {
    "name": "judge",
    "kind": "reward_model",
    "recipe": {"preferences": {"pairs": "made/pairs.jsonl"}},
}
FINAL: dict[str, Any] = {"name": "final", "kind": "rl", "reward_model": "judge", "recipe": {"steps": 1}}


TAUGHT: dict[str, Any] = {
    "name": "opd",
    "kind": "rl",
    "teacher": "cold",
    "recipe": {"steps": 1, "learner": {"objective": {"name": "opd"}}, "replay": {"drop_zero_variance": False}},
}


def opened(folder: Path, *stages: dict[str, Any], **keys: Any) -> Pipeline:
    tree = {"name": "p", "output": "runs", "base": str(folder), "common": COMMON, "stages": list(stages), **keys}
    path = folder / "p.yaml"
    path.write_text(yaml.safe_dump(tree))
    return load_pipeline(path)


def refused(pipeline: Pipeline) -> str:
    with pytest.raises(RecipeError) as error:
        check(pipeline)
    return str(error.value)


def test_what_earlier_stages_will_leave_is_not_missed(tmp_path: Path) -> None:
    making = {"script": "make.py", "folder": "made"}
    tasks = COMMON["tasks"] | {"sources": [{"source": "jsonl", "path": "made/tasks.jsonl"}], "max_prompt_tokens": 16}
    again = COLD | {"name": "again", "data": ["made/more.jsonl"], "recipe": {"tasks": tasks}}
    plan, recipes = check(opened(tmp_path, COLD, RL, JUDGE, FINAL, TAUGHT, again, prepare=making))
    assert [line.split()[-2:] for line in plan[2:]] == [["will", "run"]] * 6
    assert list(recipes) == ["cold", "rl", "judge", "final", "opd", "again"]
    assert not (tmp_path / "runs").exists(), "a check writes nothing"


def test_what_a_recipe_is_refused_for_is_refused_with_the_stage_before_anything_starts(tmp_path: Path) -> None:
    long = RL | {"recipe": {"steps": 3, "generators": {"sampling": {"max_tokens": 999}}}}
    assert refused(opened(tmp_path, COLD, long)).startswith("stage rl: generators.sampling.max_tokens is 999")
    assert "stage judge: preferences.pairs: there is no file" in refused(opened(tmp_path, COLD, JUDGE))
    assert "stage cold: data: there is no file" in refused(opened(tmp_path, COLD | {"data": ["a.jsonl", "b.jsonl"]}))
    lost = COLD | {"recipe": {"cold_start": {"traces": "nowhere.jsonl"}}}
    assert "stage cold: cold_start.traces: there is no file" in refused(opened(tmp_path, lost))
    assert not (tmp_path / "runs").exists()


def test_a_teacher_with_another_tokenizer_is_refused_before_the_stage_that_it_goes_back_to_has_run(
    tmp_path: Path,
) -> None:
    tiny.write(TinyModel(kind="tiny"), made := tmp_path / "made", seed=0)
    model = {"model": {"kind": "folder", "path": str(made)}}
    first = COLD | {"recipe": COLD["recipe"] | model}
    check(opened(tmp_path, first, TAUGHT))
    file = made / "tokenizer.json"
    file.write_text(file.read_text().replace('"<reserved9>"', '"another"'))
    says = refused(opened(tmp_path, first, TAUGHT))
    assert says.startswith("stage opd: distillation.teacher: ") and "another tokenizer than the student" in says


def begun(pipeline: Pipeline, number: int, phase: str, checkpoint: bool = True) -> None:
    """Leave what a run of a stage leaves."""
    stage = pipeline.stages[number]
    pipeline.folder.mkdir(parents=True, exist_ok=True)
    (pipeline.folder / "pipeline.yaml").write_text((pipeline.folder.parents[1] / "p.yaml").read_text())
    stage.folder.mkdir()
    (stage.folder / RECIPE).write_text(dump(stage.recipe))
    (stage.folder / RECORD).write_text(json.dumps(identities(pipeline)[stage.name]))
    (stage.folder / "metrics.jsonl").write_text(Phase(name=phase).model_dump_json() + "\n")
    if checkpoint:
        (stage.folder / "checkpoints" / "step-000002").mkdir(parents=True)
        (stage.folder / "checkpoints" / "step-000002" / META).write_text("{}")
    if phase == "finished":
        assert isinstance(stage.recipe.model, TinyModel)
        tiny.write(stage.recipe.model, stage.folder / "model", seed=0)


def test_what_is_done_stays_and_what_was_interrupted_resumes(tmp_path: Path) -> None:
    pipeline = opened(tmp_path, COLD, RL | {"model": "cold"})
    begun(pipeline, 0, "finished")
    begun(pipeline, 1, "interrupted")
    plan, _ = check(open_pipeline(pipeline.folder, ()))
    assert plan[2].endswith("done") and plan[3].endswith("resumes at step 2")
    plan, _ = check(open_pipeline(pipeline.folder, ["stages.cold.recipe.seed=3"]))
    assert plan[2].endswith("runs again, since seed: 0 -> 3")
    assert plan[3].endswith("runs again, since stage cold is another one")


def test_a_stage_that_failed_is_gone_on_with_in_its_pipeline(tmp_path: Path) -> None:
    pipeline = opened(tmp_path, COLD)
    begun(pipeline, 0, "failed", checkpoint=False)
    for folder in (pipeline.folder, pipeline.stages[0].folder):
        assert what_next(folder) == f"resume with `leeway run --resume {pipeline.folder}`"


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    pipeline = opened(tmp_path, COLD)
    pipeline.folder.mkdir(parents=True)
    (pipeline.folder / "thesis.txt").write_text("mine")
    with pytest.raises(RecipeError, match="is no pipeline's folder"), Interrupts() as interrupts:
        run(pipeline, Console(file=io.StringIO()), interrupts)
    assert [path.name for path in pipeline.folder.iterdir()] == ["thesis.txt"]


def test_data_is_made_once_and_again_by_another_program(tmp_path: Path) -> None:
    """The folder is in the way of something else, so that no run begins."""
    pipeline = opened(tmp_path, COLD, prepare={"script": "make.py", "folder": "made"})
    pipeline.folder.mkdir(parents=True)
    (pipeline.folder / "thesis.txt").write_text("mine")
    for text in ("one", "one", "two"):
        program = f"import sys, pathlib, time\npathlib.Path(sys.argv[1], '{text}').write_text(str(time.time_ns()))"
        (tmp_path / "make.py").write_text(program)
        before = (tmp_path / "made" / text).read_text() if (tmp_path / "made" / text).exists() else None
        with pytest.raises(RecipeError, match="is no pipeline's folder"), Interrupts() as interrupts:
            run(pipeline, Console(file=io.StringIO()), interrupts)
        assert before in (None, (tmp_path / "made" / text).read_text())
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == ["made-by", "two"]


@pytest.mark.parametrize(
    ("program", "says"),
    [
        ("import time\ntime.sleep(100)", "make.py did not end within 0.5 s, and was killed; make the data by hand"),
        ("raise SystemExit(3)", "make.py ended with exit code 3; what it has printed says why"),
    ],
)
def test_a_program_that_makes_no_data_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, says: str
) -> None:
    monkeypatch.setattr(pipelines, "PREPARE_SECONDS", 0.5)
    pipeline = opened(tmp_path, COLD, prepare={"script": "make.py", "folder": "made"})
    (tmp_path / "make.py").write_text(program)
    with pytest.raises(RecipeError, match=re.escape(says)), Interrupts() as interrupts:
        run(pipeline, Console(file=io.StringIO()), interrupts)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["make.py", "p.yaml"]


def test_the_program_that_makes_data_ends_with_the_pipeline(tmp_path: Path) -> None:
    """And so does what it has started: by kill -9, too."""
    opened(tmp_path, COLD, prepare={"script": "make.py", "folder": "made"})
    program = "import os, pathlib, subprocess, time\nchild = subprocess.Popen(['sleep', '1000'])\n"
    program += (
        f"pathlib.Path({str(tmp_path)!r}, 'pids').write_text(f'{{os.getpid()}} {{child.pid}} ')\ntime.sleep(1000)"
    )
    (tmp_path / "make.py").write_text(program)
    pids = tmp_path / "pids"
    command = [sys.executable, "-m", "actors.cli", "run", str(tmp_path / "p.yaml")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=ROOT) as pipeline:
        try:
            assert until(lambda: pids.exists() and pids.read_text().endswith(" "), 60)
        finally:
            pipeline.kill()
    made = [int(pid) for pid in pids.read_text().split()]
    try:
        assert until(lambda: not any(reaper.alive(pid) for pid in made), 30)
    finally:
        for pid in filter(reaper.alive, made):
            os.kill(pid, signal.SIGKILL)


def test_data_that_somebody_else_has_made_is_not_replaced(tmp_path: Path) -> None:
    pipeline = opened(tmp_path, COLD, prepare={"script": "make.py", "folder": "mine"})
    (tmp_path / "make.py").write_text("")
    (tmp_path / "mine").mkdir()
    with pytest.raises(RecipeError, match="made by something else"), Interrupts() as interrupts:
        run(pipeline, Console(file=io.StringIO()), interrupts)
