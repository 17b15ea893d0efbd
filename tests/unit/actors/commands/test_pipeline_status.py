"""`leeway status` of a pipeline's folder."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from actors.cli import app
from actors.commands.page import newest
from actors.commands.status import follow
from actors.config.pipeline import PIPELINE
from actors.control.whereabouts import Whereabouts
from actors.errors import RecipeError, RunError
from actors.events import Phase
from actors.folder import locked
from tests.unit.actors.commands.test_status import TOLD, url  # noqa: F401 - a fixture
from tests.unit.actors.report.example_events import evaluation, record, step

STAGES = """
name: three
output: {output}
common:
  model: {{kind: tiny}}
  tasks:
    sources: [{{source: addition, digits: 2}}]
    template: raw
    held_out: 8
    development: 8
    max_prompt_tokens: 16
stages:
  - {{name: cold, kind: sft, recipe: {{cold_start: {{traces: addition}}}}}}
  - {{name: rl, kind: rl, model: cold, recipe: {{steps: 3}}}}
  - {{name: test, kind: evaluate, model: rl}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "three"
    folder.mkdir()
    (folder / PIPELINE).write_text(STAGES.format(output=tmp_path))
    return folder


def stage(folder: Path, name: str, phase: str) -> Path:
    """What a run of a stage leaves."""
    place = folder / name
    record(place, [evaluation("before", 0, 0.25), step(1), Phase(seconds=9, name=phase)])
    (place / "recipe.yaml").touch()
    return place


def status(folder: Path, *arguments: str) -> tuple[str, Exception | None]:
    result = CliRunner().invoke(app, ["status", str(folder), *arguments], standalone_mode=False)
    assert result.exception is None or isinstance(result.exception, Exception)
    return result.output, result.exception


def states(output: str) -> list[str]:
    """The state of each stage in the table."""
    rows = [line.split() for line in output.splitlines() if re.match(r"\d+  ", line)]
    return [" ".join(row[3:5]) if row[3] == "to" else row[3] for row in rows]


@pytest.fixture
def alive(folder: Path) -> Iterator[ExitStack]:
    """Somebody carries the pipeline out, until that is closed."""
    with ExitStack() as stack:
        stack.enter_context(locked(folder, PIPELINE))
        yield stack


def test_the_stages_are_shown_and_the_page_of_the_one_that_runs(folder: Path, alive: ExitStack, url: str) -> None:  # noqa: F811
    stage(folder, "01-cold", "finished")
    running = stage(folder, "02-rl", "training")
    alive.enter_context(locked(running))
    Whereabouts(url=url).write(running)
    said, error = status(folder)
    assert error is None
    assert states(said) == ["done", "running", "to come"]
    assert "1 of 3 stages done, rl runs" in said and "25.0%" in said
    assert said.index("to come") < said.index("step 3 of 9, training, after 1 min 01 s")
    told = json.loads(status(folder, "--json")[0])
    assert (told["running"], told["run"]["step"], told["silent"], told["alive"]) == ("rl", 3, None, True)
    assert [each["state"] for each in told["stages"]] == ["done", "running", "to come"]


def test_a_stage_whose_controller_is_not_there_yet_runs_all_the_same(folder: Path, alive: ExitStack) -> None:
    running = stage(folder, "01-cold", "starting")
    alive.enter_context(locked(running))
    said, error = status(folder)
    assert error is None and states(said) == ["running", "to come", "to come"]
    assert "its controller is not there" in said


def test_between_two_stages_nothing_runs_and_nothing_is_wrong(folder: Path, alive: ExitStack) -> None:
    stage(folder, "01-cold", "finished")
    said, error = status(folder)
    assert error is None and states(said) == ["done", "to come", "to come"] and "runs" not in said
    alive.close()
    said, error = status(folder)
    assert isinstance(error, RunError) and "its stage rl has not begun; go on with `leeway run --resume" in str(error)
    assert states(said) == ["done", "to come", "to come"], "the stages are shown before that"


@pytest.mark.parametrize(
    ("phase", "state", "says"),
    [
        ("failed", "failed", "failed"),
        ("interrupted", "interrupted", "is interrupted"),
        ("training", "killed", "was killed"),
    ],
)
def test_a_pipeline_that_did_not_finish_does_not_look_like_success(
    folder: Path, phase: str, state: str, says: str
) -> None:
    stage(folder, "01-cold", "finished")
    stage(folder, "02-rl", phase)
    said, error = status(folder)
    assert states(said) == ["done", state, "to come"]
    assert isinstance(error, RunError) and f"its stage rl {says}; go on with" in str(error)


def test_one_that_is_done_is_said_to_be_so(folder: Path) -> None:
    for name in ("01-cold", "02-rl", "03-test"):
        stage(folder, name, "finished")
    said, error = status(folder)
    assert error is None and states(said) == ["done"] * 3 and "all 3 stages are done" in said
    said, error = status(folder, "--watch")
    assert error is None and "this pipeline is over: all 3 stages are done" in said.replace("\n", "")


def test_it_is_watched_from_stage_to_stage_until_it_is_over(folder: Path, url: str) -> None:  # noqa: F811
    pages: list[str] = []
    names = ["01-cold", "02-rl", "03-test"]
    runs: list[ExitStack] = []

    def show(page: object) -> None:
        """Between two stages, in one, between two, ..."""
        console = Console(record=True, width=200, file=StringIO())
        console.print(page)
        pages.append(console.export_text())
        number, within = divmod(len(pages), 2)
        if within:
            place = stage(folder, names[number], "training")
            Whereabouts(url=url).write(place)
            runs.append(ExitStack())
            runs[-1].enter_context(locked(place))
            return
        runs[-1].close()
        stage(folder, names[number - 1], "finished")
        if number == len(names):
            pipeline.close()

    with ExitStack() as pipeline:
        pipeline.enter_context(locked(folder, PIPELINE))
        follow(str(folder), show, interval_seconds=0.0)
    assert len(pages) == 6
    assert ["step 3 of 9" in page for page in pages] == [False, True] * 3
    assert [states(page).count("done") for page in pages] == [0, 0, 1, 1, 2, 2]


def test_a_pipeline_that_cannot_be_read_is_named(folder: Path) -> None:
    (folder / PIPELINE).write_text("stages: [{name: a}]")
    _, error = status(folder)
    assert isinstance(error, RecipeError) and PIPELINE in str(error)


def test_the_newest_is_a_pipeline_only_where_one_is_asked_for(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for name in ("inputs.json", "recipe.yaml"):
        (run / name).touch()
    later = (run / "recipe.yaml").stat().st_mtime + 9
    os.utime(folder / PIPELINE, (later, later))
    assert newest(tmp_path) == run
    assert newest(tmp_path, pipelines=True) == folder
