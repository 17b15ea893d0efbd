"""Checkpoints with torch DCP: asynchronous, atomic, keep-last-N.

A checkpoint is written to a staging folder beside its place, verified, made durable, and renamed: after a crash at any
instant the folder is whole or absent, and earlier checkpoints are untouched. Every rank writes its own shards. Before
anybody is told that they are durable the first one finds all of them in the folder as *it* sees it, and hashes them.
"""

from __future__ import annotations

import copy
import json
import shutil
import socket
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader

from learner.distributed import ranks
from learner.errors import CheckpointError
from learner.extra import META, checkpoints, damage, read_meta
from learner.files import begin, replace_folder, sha256_of, staging_of

FORMAT = 1
# DCP's writers finish in minutes even for large models on network disks; beyond this the storage is gone.
WRITE_TIMEOUT_SECONDS = 3600.0

_executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")


def save_async(folder: Path, state: Mapping[str, Any], meta: Mapping[str, Any], keep_last: int) -> Future[None]:
    """Copy a state now and write it in the background. With several ranks all must call this.

    Args:
        folder: place of the checkpoint.
        state: tensors by name, nested as torch DCP has them.
        meta: JSON beside the tensors.
        keep_last: checkpoints beside `folder`, itself included, that are kept; those called `step-NUMBER` count.

    Returns:
        A future that is done when `folder` is durable and older checkpoints are deleted (rank 0's is the one that means
        it), and that raises `CheckpointError`; nothing is left of the new one then.

    Raises:
        CheckpointError: where it cannot even be begun.
    """
    text = {"format": FORMAT, **meta}
    staging = staging_of(folder)
    try:
        failed = _begin(folder)
        if ranks.all_reduce_sum(float(failed is not None), torch.device("cpu")):  # all ranks give up, or none
            raise failed or OSError("the first rank could not begin")
        written = state_dict_saver.async_save(
            dict(state), checkpoint_id=staging, process_group=ranks.background_group(), no_dist=ranks.world_size() == 1
        )
    except OSError as error:
        raise _not_written(folder, error) from error
    assert isinstance(written, Future)
    return _executor.submit(_finish, written, staging, folder, text, keep_last)


def _begin(folder: Path) -> OSError | None:
    """Make the staging folder, on the first rank; returns what keeps it from that."""
    try:
        if ranks.rank() == 0:
            begin(folder)
    except OSError as error:
        return error
    return None


def _finish(written: Future[Any], staging: Path, folder: Path, meta: dict[str, Any], keep_last: int) -> None:
    try:
        written.result(timeout=WRITE_TIMEOUT_SECONDS)
        if ranks.rank() == 0:
            _require_all_shards(staging)
            files = {str(f.relative_to(staging)): f for f in sorted(staging.rglob("*")) if f.is_file()}
            sizes = {name: file.stat().st_size for name, file in files.items()}
            hashes = {name: sha256_of(file) for name, file in files.items()}
            (staging / META).write_text(json.dumps({**meta, "files": sizes, "sha256": hashes}))
            replace_folder(staging, folder)
            prune(folder.parent, keep_last)
    except (OSError, CheckpointException, TimeoutError) as error:
        if ranks.rank() == 0:
            shutil.rmtree(staging, ignore_errors=True)  # which gives its room back
        raise _not_written(folder, error) from error


def _require_all_shards(staging: Path) -> None:
    """Raises OSError where a rank has said that it has written what cannot be seen here: on a disk of its own node."""
    written: dict[str, int] = {}
    for place in FileSystemReader(staging).read_metadata().storage_data.values():
        written[place.relative_path] = max(written.get(place.relative_path, 0), place.offset + place.length)
    missing = [
        name
        for name, size in sorted(written.items())
        if not (staging / name).is_file() or (staging / name).stat().st_size < size
    ]
    if missing:
        raise OSError(
            f"{socket.gethostname()}, the first rank's node, does not see {', '.join(missing[:3])} of {len(written)} "
            "files, which other ranks say they have written: their nodes see another folder under this path; set "
            "output to storage that all of them share"
        )


def _not_written(folder: Path, error: BaseException) -> CheckpointError:
    return CheckpointError(f"could not write checkpoint {folder}: {_cause(error)}; earlier ones are untouched")


def _cause(error: BaseException) -> str:
    """What went wrong, in a line. DCP's own text is the tracebacks of all ranks; torch's of a disk that is full is
    `unexpected pos 704 vs 598`, behind which the operating system's stands.
    """
    if isinstance(error, CheckpointException) and error.failures:
        error = next(iter(error.failures.values()))[0]
    chain: BaseException | None = error
    while chain is not None and not isinstance(chain, OSError):
        chain = chain.__context__
    return " ".join(str(chain or error).split()) or type(error).__name__


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
    if found := damage(folder):
        raise CheckpointError(f"{folder} is damaged: {found}; delete it, and resume from the one before")
    meta = read_meta(folder)
    if meta.get("format") != FORMAT:
        raise CheckpointError(f"{folder} has checkpoint format {meta.get('format')}, this version reads {FORMAT}")
    try:
        state_dict_loader.load(state, checkpoint_id=folder, no_dist=ranks.world_size() == 1)
    except (CheckpointException, OSError) as error:
        raise CheckpointError(
            f"{folder} does not fit this model and configuration, or is damaged: {_cause(error)[-500:]}"
        ) from error
    return meta


@dataclass(frozen=True, slots=True)
class Difference:
    """Of a state from a checkpoint: the first tensor that differs, and the largest distance of any two numbers."""

    name: str
    largest: float


def difference(folder: Path, state: Mapping[str, Any], parts: Collection[str]) -> Difference | None:
    """How the tensors in some parts of a state differ from those of a checkpoint; None where none does.

    Raises:
        CheckpointError: as `load`.
    """
    mine = {name: state[name] for name in state if name in parts}
    theirs = copy.deepcopy(mine)
    load(folder, theirs)
    pairs = zip(_tensors(mine), _tensors(theirs), strict=True)
    different = [(name, a, b) for (name, a), (_, b) in pairs if not torch.equal(a, b)]
    if not different:
        return None
    return Difference(different[0][0], max(float((a - b).abs().max()) for _, a, b in different))


def _tensors(tree: Mapping[Any, Any], name: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    for key, value in tree.items():
        if isinstance(value, torch.Tensor):
            yield f"{name}{key}", value.detach()
        elif isinstance(value, Mapping):
            yield from _tensors(value, f"{name}{key}.")


def prune(parent: Path, keep_last: int) -> None:
    """Delete all but the `keep_last` newest whole checkpoints in `parent`; nothing else counts or is touched."""
    whole = [folder for folder in checkpoints(parent).values() if damage(folder) is None]
    for folder in whole[:-keep_last]:
        shutil.rmtree(folder, ignore_errors=True)  # the new one is durable, whatever becomes of the old ones
