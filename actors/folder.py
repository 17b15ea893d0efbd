"""Run folders: made, opened again, and kept for one process at a time."""

import json
import os
import secrets
import shutil
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from actors.config import checks as config_checks
from actors.config import resuming
from actors.config.loading import RECIPE as RECIPE
from actors.config.loading import dump, load
from actors.config.recipe import Recipe
from actors.config.tasks import CodeSource, GpqaSource, Gsm8kSource, JsonlSource
from actors.config.validation import quoted
from actors.errors import RecipeError
from actors.events import Phase
from actors.report.writer import LOCK, lock, read_back
from actors.roles.scorer.files import check_files
from actors.storage.inputs import below, local
from actors.storage.mirror import Mirror
from actors.storage.uris import Uri
from actors.tasks import checks as task_checks
from learner.extra import CHECKPOINTS, checkpoints, damage, described, newest_whole, put_aside
from learner.files import sha256_of, staged, tidy, write_atomically

INPUTS = "inputs.json"


class Reopened(NamedTuple):
    """What a run resumes from.

    Attributes:
        recipe: of the run, with what was changed.
        checkpoint: the newest one that is whole.
        step: of that checkpoint.
        notes: what whoever resumes the run must know, line by line.
    """

    recipe: Recipe
    checkpoint: Path
    step: int
    notes: list[str]


def new_folder(recipe: Recipe, place: Path | None = None) -> Path:
    """A fresh run folder that holds the resolved recipe.

    Args:
        recipe: of the run.
        place: where it is made; default: in `output`, under its name and the time.

    Raises:
        RecipeError: the recipe cannot be run, or the folder cannot be made.
    """
    require(recipe)
    try:
        recipe.output.mkdir(parents=True, exist_ok=True)
        stamped = (recipe.output / f"{recipe.name}-{time.strftime('%Y%m%d-%H%M%S')}").absolute()
        folder = _fresh(stamped if place is None else place)
        try:
            write_atomically(folder / INPUTS, json.dumps(_inputs(recipe), indent=2) + "\n")
            write_atomically(folder / RECIPE, dump(recipe))
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    except OSError as error:
        raise RecipeError(f"output: no run folder can be made in {recipe.output} ({error.strerror})") from error
    return folder


def _fresh(folder: Path) -> Path:
    """Make the folder; under a name with a suffix where another run, perhaps of the same second, has this one."""
    try:
        folder.mkdir()
    except FileExistsError:
        folder = folder.with_name(f"{folder.name}-{secrets.token_hex(4)}")
        folder.mkdir()
    return folder


@contextmanager
def locked(folder: Path, known_by: str = RECIPE) -> Iterator[int]:
    """Keep every other process out of a run folder, until the block ends or this process does, however it ends.

    It gives the lock's descriptor: a process that has it, too, keeps the lock for as long as it lives.

    Args:
        folder: of the run.
        known_by: name of the file that is in every folder of its kind.

    Raises:
        RecipeError: it is no run folder, it cannot be written, or a run in it is alive.
    """
    _require_run_folder(folder, known_by)
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise RecipeError(f"{folder}: cannot be written ({error.strerror})") from error
    try:
        _lock(folder, descriptor)
        yield descriptor
    finally:
        os.close(descriptor)


def _lock(folder: Path, descriptor: int) -> None:
    try:
        lock(descriptor)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 200, 0).decode("utf-8", "replace") or "another process"
        raise RecipeError(
            f"{folder}: this run is alive ({holder}); end it first, or wait until it has ended"
        ) from error
    with suppress(OSError):  # it only says who has the lock, which a disk that is full must not prevent
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)


def reopen(folder: Path, overrides: Sequence[str]) -> Reopened:
    """Open the folder of an earlier run, whose lock the caller has, at its newest checkpoint that is whole.

    What the overrides change is kept: the run's recipe.yaml becomes the changed one, and the earlier one stays beside
    it. What a crash has left half-written is cleared away, and a newer checkpoint that is damaged is set aside.

    Raises:
        RecipeError: the folder is no run folder, no checkpoint in it can be used, its recipe cannot be run, an
            override asks for what cannot change any more, or there is nothing left to do.
    """
    from actors.replay.resuming import settle_journals  # a check needs none of what they need
    from actors.roles.replay import identity_of, tasks_of

    _require_run_folder(folder)
    before, recipe = load(folder / RECIPE), load(folder / RECIPE, overrides)
    if refused := resuming.refused(before, recipe):
        raise RecipeError(f"{folder}: a run keeps what it began with: {'; '.join(refused)}")
    tidy(folder)
    tidy(folder / CHECKPOINTS)
    step, checkpoint, damaged = _newest(folder)
    _require_work(folder, recipe, step)
    require(recipe, folder)
    _require_same_inputs(folder, recipe)
    try:
        notes = [f"{line}; the run resumes from step {step}" for line in put_aside(damaged)]
        identities = [identity_of(recipe, folder, step, shard) for shard in range(recipe.replay.shards)]
        if note := settle_journals(folder, identities, recipe.replay.journal, step, lambda: tasks_of(recipe)):
            notes.append(note)
        if changed := resuming.changes(before, recipe):
            notes += [f"{key}: {quoted(old)} -> {quoted(new)}" for key, (old, new) in changed.items()]
            notes.append(f"these hold from step {step} on; what held until then is in {_keep(folder, recipe, step)}")
    except OSError as error:
        raise RecipeError(f"{folder}: cannot be written ({error.strerror})") from error
    return Reopened(recipe, checkpoint, step, notes)


def newest_step(folder: Path) -> int | None:
    """The step of the newest whole checkpoint of a run folder; None where there is none."""
    found = newest_whole(folder / CHECKPOINTS)
    return found[0] if found else None


def from_mirror(uri: Uri) -> tuple[Path, list[str]]:
    """The run folder of a run that has a mirror at `uri`, and what whoever resumes it must know, line by line.

    A machine that has the folder goes on with its own; it is made where there is none.

    Raises:
        RecipeError: there is no such run, no checkpoint of it is whole, or the folder that is here is behind.
        StorageError: the storage fails.
    """
    mirror = Mirror(uri)
    recipe = load(local(below(mirror.uri, RECIPE)))
    folder = recipe.output / mirror.uri.rpartition("/")[2]
    if not folder.exists():
        try:
            with staged(folder) as staging:
                notes = mirror.restore(staging)
        except OSError as error:
            raise RecipeError(f"{folder}: cannot be made ({error.strerror})") from error
        return folder, notes
    mine = newest_step(folder)
    if behind := [step for step in mirror.steps() if mine is None or step > mine]:
        raise RecipeError(
            f"{folder}: is here, and the mirror has a newer checkpoint, of step {behind[-1]}; move the folder away to "
            f"resume from the mirror, or name it: `leeway run --resume {folder}`"
        )
    return folder, [f"{folder} is here, and no older than {mirror.uri}"]


def _newest(folder: Path) -> tuple[int, Path, dict[Path, str]]:
    """The step and the place of the newest whole checkpoint, and what is wrong with each newer one.

    Its files are read. An older one can always be taken: where its batches are committed, which a learner that restarts
    has to refuse, the replay begins anew at its position.
    """
    damaged: dict[Path, str] = {}
    for step, path in reversed(checkpoints(folder / CHECKPOINTS).items()):
        if (what := damage(path, contents=True)) is None:
            return step, path, damaged
        damaged[path] = what
    over = f"start over with `leeway run {folder / RECIPE}`"
    if not damaged:
        raise RecipeError(f"{folder}: there is no checkpoint yet; {over}")
    raise RecipeError(
        f"{folder}: every checkpoint is damaged: {described(damaged)}; put a copy in its place, or {over}"
    )


def _require_work(folder: Path, recipe: Recipe, step: int) -> None:
    """Raises RecipeError where nothing is left to do; a run that ended before its last evaluation still has that."""
    if recipe.steps > step or (recipe.steps == step and not finished(folder)):
        return
    raise RecipeError(
        f"{folder}: nothing is left to do: its newest checkpoint is of step {step}, and steps is {recipe.steps}; to go "
        "on, give more, as in -s steps=" + str(2 * step)
    )


def _inputs(recipe: Recipe) -> dict[str, str]:
    """A hash of every file that the tasks come from, by its key."""
    found = {}
    for number, source in enumerate(recipe.tasks.sources):
        if isinstance(source, Gsm8kSource | GpqaSource | JsonlSource | CodeSource) and source.path is not None:
            found[f"tasks.sources.{number}.path"] = sha256_of(local(source.path))
    return found


def _require_same_inputs(folder: Path, recipe: Recipe) -> None:
    """Raises RecipeError where the tasks are others than before, though their files are called the same."""
    if not (folder / INPUTS).exists():  # a run of an earlier release
        return
    before, now = json.loads((folder / INPUTS).read_text()), _inputs(recipe)
    if changed := [key for key in now if before.get(key) != now[key]]:
        raise RecipeError(
            f"{folder}: {', '.join(changed)}: the file holds other lines than when the run began, and the checkpoint's "
            "position counts those; put it back, or begin another run with these and with this run's model"
        )


def finished(folder: Path) -> bool:
    """Whether the run in a folder has come to its end."""
    phases = [event for event in read_back(folder) if isinstance(event, Phase)]
    return bool(phases) and phases[-1].name == "finished"


def _keep(folder: Path, recipe: Recipe, step: int) -> str:
    """Make `recipe` the run's; returns the name of the file that keeps what held until `step`."""
    earlier = folder / f"recipe-until-{step:06d}.yaml"
    if not earlier.exists():  # or else a resume at the same step, of which nothing is left, was in between
        write_atomically(earlier, (folder / RECIPE).read_text(encoding="utf-8"))
    write_atomically(folder / RECIPE, dump(recipe))
    return earlier.name


def _require_run_folder(folder: Path, known_by: str = RECIPE) -> None:
    if not os.access(folder / known_by, os.R_OK):
        raise RecipeError(f"{folder}: not a run folder (it has no {known_by} that can be read)")


def require(recipe: Recipe, resumed: Path | None = None) -> None:
    """Refuse what can be known to be wrong before a process starts.

    Args:
        recipe: with absolute paths.
        resumed: the folder of the run that resumes.

    Raises:
        RecipeError: one line with every problem.
    """
    problems = config_checks.problems(recipe, resumed=resumed is not None)
    # lines are looked at where there is a file to read
    problems = problems or task_checks.problems(recipe, resumed=resumed is not None)
    if problems:
        raise RecipeError("; ".join(problems))
    check_files(recipe, resumed)
