"""Rejection sampling at the weights of a run that trains no further: every completion is kept, and then curated."""

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

from actors.config.recipe import Recipe
from actors.curation import curate
from actors.errors import RunError
from actors.events import SAMPLE, CurationDone
from actors.replay.evaluation import SAMPLES
from actors.roles.learner.telling import Telling

log = logging.getLogger(__name__)


def provenance(recipe: Recipe, folder: Path) -> dict[str, str | int]:
    """What stands with every completion that a run keeps: the run, its seed, the hash of the model in its folder."""
    return {"run": folder.name, "seed": recipe.seed, "model": model_hash(folder / "model")}


def model_hash(folder: Path) -> str:
    """SHA-256 of a model's weights; of several files, of the lines that `sha256sum` prints for them."""
    digests = []
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            digests.append((hashlib.file_digest(file, "sha256").hexdigest(), path.name))
    if len(digests) == 1:
        return digests[0][0]
    return hashlib.sha256("".join(f"{digest}  {name}\n" for digest, name in digests).encode()).hexdigest()


def sample(recipe: Recipe, folder: Path, telling: Telling, version: int, stopped: Callable[[], bool]) -> None:
    """Sample and curate as the recipe says. A run that resumes goes on where its journal ends.

    Raises:
        EvaluationMissingError: none of the tasks could be scored.
        GaveUpError: there is no progress.
        RunError: the examples cannot be written.
    """
    config = recipe.sample
    assert config is not None
    told = provenance(recipe, folder)
    telling.evaluate(SAMPLE, version, config.samples, wait=True, training=config.tasks, keep=True, provenance=told)
    if stopped():
        return
    telling.phase("curation", f"of {SAMPLES}")
    curated = folder / config.curated
    try:
        selection, mixed = curate(folder / SAMPLES, curated, config, recipe.seed)
    except OSError as error:
        raise RunError(f"{curated}: cannot be written ({error.strerror}); make room and resume") from error
    telling.notify(
        CurationDone(
            version=version,
            sampled=selection.sampled,
            kept=len(selection.kept),
            tasks=selection.tasks,
            mixed=mixed,
            dropped=dict(selection.dropped),
        )
    )
