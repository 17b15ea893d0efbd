"""A pipeline as its driver sees it: what is done, what is still to do, and one run after the other.

    load ──▶ prepare ──▶ plan and check ──▶ the folder is taken ──▶ set aside ──▶ run, resume ... ──▶ table

Each stage is an ordinary run in a folder of its own, with an ordinary run's journal, checkpoints and report; what is
kept beside it is only what its result depends on (`stage.json`).
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from actors.config import resuming, yaml_core
from actors.config.loading import RECIPE, load
from actors.config.pipeline import MODEL, PIPELINE, REWARD_MODEL, Pipeline, Stage, load_pipeline
from actors.config.recipe import Recipe
from actors.control import environment
from actors.control.cluster import guarded
from actors.errors import LeewayError, RecipeError
from actors.folder import finished, locked, new_folder, newest_step, require
from actors.report import stages as report
from actors.run import go_on, show, surroundings
from actors.stages.identity import Identity, identities
from actors.stages.plan import Action, Found, Planned, lines, plan
from actors.stages.stand_ins import StandIns
from actors.tasks.parquet import is_parquet, read_rows
from learner.files import staged, write_atomically
from sandbox.interrupts import Interrupts

#: What the result of a stage depends on, in its folder.
RECORD = "stage.json"
#: Folders of stages that are run again.
EARLIER = "earlier"
#: Which program has made a folder of data.
MADE_BY = "made-by"
#: Longest time that a program may take to make data (s).
PREPARE_SECONDS = 3600.0


def open_pipeline(path: Path, overrides: Sequence[str]) -> Pipeline:
    """The pipeline in a YAML file, or in the folder of one that has begun.

    Raises:
        RecipeError: one line that says what is wrong with it.
    """
    path = path / PIPELINE if path.is_dir() else path
    return load_pipeline(path, overrides, path.absolute().parent if path.name == PIPELINE else None)


def check(pipeline: Pipeline) -> tuple[list[str], dict[str, Recipe]]:
    """The plan, line by line, and the recipes of the stages that are to run.

    Raises:
        RecipeError: a stage cannot be run.
    """
    planned = _planned(pipeline)
    return [f"{pipeline.config.name}: {pipeline.folder}", *lines(planned)], _required(pipeline, planned)


def run(pipeline: Pipeline, console: Console, interrupts: Interrupts) -> None:
    """Run what is not done yet, stage by stage, and print what they have come to.

    Raises:
        RecipeError: a stage cannot be run; nothing was started.
        RunError: a stage failed.
        KeyboardInterrupt: a stage was interrupted, after a graceful shutdown.
    """

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    _prepare(pipeline, say)
    for recipe in _required(pipeline, _planned(pipeline)).values():
        surroundings(recipe)
    with _taken(pipeline.folder, pipeline) as lock:
        planned = _planned(pipeline)  # another process may have had the folder until now
        say(f"pipeline folder: {pipeline.folder}")
        for line in lines(planned):
            say(line)
        for each in planned:
            if each.action is Action.RERUN:
                say(f"what there was of {each.stage.name} is now in {_set_aside(pipeline, each.stage)}")
        known = identities(pipeline)
        try:
            for each in planned:
                if each.action is not Action.DONE:
                    say(f"\nstage {each.stage.number} of {len(planned)}: {each.stage.name} ({each.stage.kind})")
                    _execute(each, known[each.stage.name], lock, console, interrupts)
                    _summarise(pipeline)
        finally:
            say("\n" + "\n".join(report.table(_summarise(pipeline))))
            say(f"report: {pipeline.folder / report.REPORT}")


# -------------------------------------------------------------------- before anything is started


def _planned(pipeline: Pipeline) -> list[Planned]:
    return plan(pipeline.stages, identities(pipeline), {stage.name: _found(stage) for stage in pipeline.stages})


def _found(stage: Stage) -> Found | None:
    if not stage.folder.is_dir():
        return None
    try:
        record = json.loads((stage.folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        record = None
    whole = finished(stage.folder) and all((stage.folder / name).exists() for name in _leaves(stage))
    return Found(record, whole, newest_step(stage.folder))


def _leaves(stage: Stage) -> Iterator[str]:
    yield MODEL
    if stage.recipe.sample is not None:
        yield stage.recipe.sample.curated
    if stage.recipe.preferences is not None and stage.recipe.preferences.pairs is not None:
        yield REWARD_MODEL


def _required(pipeline: Pipeline, planned: Sequence[Planned]) -> dict[str, Recipe]:
    """Refuse what can be known to be wrong with the stages that are to run; returns their recipes, in which something
    stands in for what is yet to be made."""
    recipes = {}
    with tempfile.TemporaryDirectory(prefix="leeway-") as folder:
        stand_ins = StandIns(pipeline, Path(folder))
        for each in planned:
            if each.action is Action.DONE:
                continue
            with named(each.stage.name):
                for path in each.stage.data:
                    if not path.is_file() and not stand_ins.will_be_made(path):
                        raise RecipeError(f"data: there is no file {path}")
                recipe = stand_ins.recipe(each.stage)
                require(recipe, each.stage.folder if each.action is Action.RESUME else None)
                recipes[each.stage.name] = recipe
    return recipes


@contextmanager
def named(stage: str) -> Iterator[None]:
    """Begin what is wrong with a stage by its name."""
    try:
        yield
    except LeewayError as error:
        raise type(error)(f"stage {stage}: {error}") from error


def _prepare(pipeline: Pipeline, say: Callable[[str], None]) -> None:
    """Make the data that the stages read, unless this very program has made it."""
    config = pipeline.config.prepare
    if config is None:
        return
    try:
        program = hashlib.sha256(config.script.read_bytes()).hexdigest()
    except OSError as error:
        raise RecipeError(f"prepare.script: {config.script} cannot be read ({error.strerror})") from error
    made_by = config.folder / MADE_BY
    if made_by.is_file() and made_by.read_text().strip() == program:
        return
    if config.folder.exists() and not made_by.is_file():
        raise RecipeError(f"prepare.folder: {config.folder} is there, and was made by something else; name another one")
    say(f"making {config.folder} with {config.script}")
    path = os.pathsep.join(filter(None, sys.path))  # what this process can import, the program can
    # However this process ends, the program ends with it: another one may be about to make the same folder.
    with guarded(environment.describe(None)), staged(config.folder) as folder:
        command, variables = [sys.executable, str(config.script), str(folder)], os.environ | {"PYTHONPATH": path}
        try:
            subprocess.run(command, cwd=pipeline.config.base, env=variables, check=True, timeout=PREPARE_SECONDS)
            (folder / MADE_BY).write_text(program + "\n")
        except subprocess.TimeoutExpired as error:
            raise RecipeError(
                f"prepare.script: {config.script} did not end within {PREPARE_SECONDS:g} s, and was killed; make the "
                f"data by hand, and name the files in `data` without `prepare`"
            ) from error
        except subprocess.CalledProcessError as error:
            raise RecipeError(
                f"prepare.script: {config.script} ended with exit code {error.returncode}; what it has printed says why"
            ) from error
        except OSError as error:
            raise RecipeError(f"prepare: {error}") from error


# -------------------------------------------------------------------- the folder


@contextmanager
def _taken(folder: Path, pipeline: Pipeline) -> Iterator[int]:
    """Make the pipeline's folder where there is none, and keep other processes out of it. Gives the lock."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / PIPELINE).exists():
            if any(folder.iterdir()):
                raise RecipeError(f"{folder}: is no pipeline's folder, and not empty; set `name` or `output`")
            write_atomically(folder / PIPELINE, _text(pipeline))
    except OSError as error:
        raise RecipeError(f"output: {folder} cannot be written ({error.strerror})") from error
    with locked(folder, PIPELINE) as lock:
        write_atomically(folder / PIPELINE, _text(pipeline))
        yield lock


def _text(pipeline: Pipeline) -> str:
    return yaml_core.write(pipeline.config.model_dump(mode="json"))


def _set_aside(pipeline: Pipeline, stage: Stage) -> Path:
    """Move what there is of a stage out of its way."""
    place = pipeline.folder / EARLIER / f"{stage.folder.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    place.parent.mkdir(exist_ok=True)
    if (stage.folder / RECIPE).exists():
        with locked(stage.folder):
            return stage.folder.rename(place)
    return stage.folder.rename(place)


# -------------------------------------------------------------------- one stage


def _execute(planned: Planned, identity: Identity, lock: int, console: Console, interrupts: Interrupts) -> None:
    stage = planned.stage
    with named(stage.name):
        found = surroundings(stage.recipe)
        if planned.action is Action.RESUME:
            with locked(stage.folder) as own:
                go_on(stage.folder, _changed(stage), console, found, interrupts, [lock, own])
            return
        _join(stage)
        new_folder(stage.recipe, stage.folder)
        write_atomically(stage.folder / RECORD, json.dumps(identity, indent=2, sort_keys=True) + "\n")
        with locked(stage.folder) as own:
            show(stage.recipe, stage.folder, None, 0, console, found, interrupts, [lock, own])


def _changed(stage: Stage) -> list[str]:
    """What the pipeline now says of a run that resumes, and did not when it began: nothing that its result depends on,
    or the stage would run again."""
    changes = resuming.changes(load(stage.folder / RECIPE), stage.recipe)
    applied = {key: now for key, (_, now) in changes.items() if resuming.decides(key) in resuming.APPLIED}
    return [f"{key}={json.dumps(now)}" for key, now in applied.items()]


def _join(stage: Stage) -> None:
    """Write the files of its data one behind the other."""
    if not stage.data or stage.recipe.cold_start is None:
        return
    target = Path(stage.recipe.cold_start.traces)
    unfinished = target.with_name(f".{target.name}.tmp")
    with unfinished.open("wb") as joined:
        for path in stage.data:
            if is_parquet(path):
                joined.writelines(f"{json.dumps(row)}\n".encode() for _, row in read_rows(path, path, "data"))
                continue
            with path.open("rb") as part:
                shutil.copyfileobj(part, joined)
            joined.write(b"\n")  # a blank line is passed over
    unfinished.replace(target)


def _summarise(pipeline: Pipeline) -> report.PipelineSummary:
    """What the stages have come to, written beside them as well."""
    rows = [report.stage_summary(stage.name, stage.kind, stage.folder) for stage in pipeline.stages]
    summary = report.PipelineSummary(name=pipeline.config.name, stages=rows)
    write_atomically(pipeline.folder / report.SUMMARY, summary.model_dump_json(indent=2) + "\n")
    write_atomically(pipeline.folder / report.REPORT, report.to_html(summary))
    return summary
