"""Checkpoints with torch DCP: asynchronous, atomic, keep-last-N.

A checkpoint is written to a staging folder beside its place, made durable, and renamed: after a crash at any instant
the folder is whole or absent, and earlier checkpoints are untouched.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException

from learner.distributed import ranks
from learner.errors import CheckpointError
from learner.extra import META
from learner.files import replace_folder

FORMAT = 1
# DCP's writers finish in minutes even for large models on network disks; beyond this the storage is gone.
WRITE_TIMEOUT_SECONDS = 3600.0

_executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")


def save_async(folder: Path, state: Mapping[str, Any], meta: Mapping[str, Any], keep_last: int) -> Future[None]:
    """Copy a state now and write it in the background. With several ranks all must call this.

    Args:
        folder: place of the checkpoint.
        state: tensors by name, nested as torch DCP has them.
        meta: JSON beside the tensors; `version` orders the checkpoints.
        keep_last: checkpoints beside `folder`, itself included, that are kept.

    Returns:
        A future that is done when `folder` is durable and older checkpoints are deleted (rank 0's is the one that means
        it), and that raises `CheckpointError`.
    """
    staging = folder.with_name(f".{folder.name}.tmp")
    text = json.dumps({"format": FORMAT, **meta})
    if ranks.rank() == 0:
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
    ranks.barrier()
    written = state_dict_saver.async_save(
        dict(state), checkpoint_id=staging, process_group=ranks.background_group(), no_dist=ranks.world_size() == 1
    )
    assert isinstance(written, Future)
    return _executor.submit(_finish, written, staging, folder, text, keep_last)


def _finish(written: Future[Any], staging: Path, folder: Path, meta: str, keep_last: int) -> None:
    try:
        written.result(timeout=WRITE_TIMEOUT_SECONDS)
        if ranks.rank() == 0:
            (staging / META).write_text(meta)
            replace_folder(staging, folder)
            prune(folder.parent, keep_last)
    except (OSError, CheckpointException, TimeoutError) as error:
        raise CheckpointError(f"could not write checkpoint {folder}: {error}; earlier ones are untouched") from error


def load(folder: Path, state: dict[str, Any]) -> dict[str, Any]:
    """Fill the tensors of `state` from `folder`.

    Returns:
        The meta data that were saved beside them.

    Raises:
        CheckpointError: where `folder` is not a checkpoint, is damaged, or fits another model or configuration.
    """
    missing = [name for name in (META, ".metadata") if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{folder} is not a checkpoint: {' and '.join(missing)} missing; name a folder that Trainer.save wrote"
        )
    meta: dict[str, Any] = json.loads((folder / META).read_text())
    if meta.get("format") != FORMAT:
        raise CheckpointError(f"{folder} has checkpoint format {meta.get('format')}, this version reads {FORMAT}")
    try:
        state_dict_loader.load(state, checkpoint_id=folder, no_dist=ranks.world_size() == 1)
    except (CheckpointException, OSError) as error:
        raise CheckpointError(
            f"{folder} does not fit this model and configuration, or is damaged: {str(error).strip()[-500:]}"
        ) from error
    return meta


def prune(parent: Path, keep_last: int) -> None:
    """Delete all but the `keep_last` checkpoints of the highest versions in `parent`; nothing else is touched."""
    found = [(json.loads(meta.read_text())["version"], meta.parent) for meta in parent.glob(f"*/{META}")]
    for _, folder in sorted(found, key=lambda item: item[0])[:-keep_last]:
        shutil.rmtree(folder)
