"""Which checkpoint a learner goes on from: the newest one that holds what was written, if its batches are still there.

What an older one lacks is trained again, on the same batches, as long as the replay has them: those that no checkpoint
was known to contain. A damaged checkpoint that was committed is another matter. Its batches are gone, and the learner
says so instead of training others under their numbers; only with a replay that begins at the older checkpoint, too, can
such a run go on, and that is `leeway run --resume`.
"""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from actors.errors import ProtocolError
from learner import CheckpointError, DamagedCheckpointError, Trainer
from learner.distributed import ranks
from learner.extra import CHECKPOINTS, checkpoints, described, put_aside

log = logging.getLogger(__name__)


def resume(
    trainer: Trainer, folder: Path, given: Path | None, committed: Callable[[int], None]
) -> tuple[dict[str, Any], list[str]] | None:
    """Load the newest sound checkpoint of a run; with several ranks all must call this.

    Args:
        trainer: is loaded.
        folder: the run folder; its damaged newer checkpoints are set aside.
        given: a checkpoint that the run resumes from wherever it is; None where it may begin anew.
        committed: tells the replay that what is before a version is in a checkpoint.

    Returns:
        What was saved beside the tensors, and a line about each checkpoint that was set aside; None where there is no
        checkpoint.

    Raises:
        CheckpointError: none is sound, or the replay does not have the batches any more that come next.
    """
    damaged: dict[Path, str] = {}
    for path in _newest_first(folder, given):
        try:
            extra = trainer.load(path)
        except DamagedCheckpointError as error:
            log.error("%s", error)
            damaged[path] = error.what
            continue
        try:
            committed(trainer.version)  # once more: the learner before may have died in between
        except ProtocolError as error:
            newer = f"{described(damaged)} is damaged" if damaged else "a newer checkpoint is gone"
            raise CheckpointError(
                f"{newer}, and what came after {path.name} is committed: put a whole copy in its place, or begin again "
                f"at step {trainer.version} with `leeway run --resume {folder}`"
            ) from error
        lines = put_aside(damaged) if ranks.rank() == 0 else []
        return extra, [f"{line}; the learner goes on from step {trainer.version}" for line in lines]
    if damaged:
        raise CheckpointError(
            f"every checkpoint in {folder} is damaged: {described(damaged)}; put a copy in its place, or start over "
            f"with `leeway run {folder}/recipe.yaml`"
        )
    return None


def _newest_first(folder: Path, given: Path | None) -> list[Path]:
    """As the first rank sees them: where two looked for themselves, they might try different ones."""
    found = [*reversed(checkpoints(folder / CHECKPOINTS).values())]
    seen = json.loads(ranks.gather_texts(json.dumps([str(path) for path in found]))[0])
    paths = [Path(path) for path in seen]
    return paths if given is None or given in paths else [*paths, given]
