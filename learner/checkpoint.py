"""Checkpoints with torch DCP: asynchronous, atomic, keep-last-N.

A checkpoint is written to a staging folder beside its place, verified, made durable, and renamed: after a crash at any
instant the folder is whole or absent, and earlier checkpoints are untouched. Every rank writes its own shards, and
hashes them; a rank of another node, where there is one, hashes them as *it* sees them; and every rank looks for all of
them. Only then is anybody told that they are durable. Who loads a checkpoint does as much once more.
"""

from __future__ import annotations

import copy
import json
import re
import shutil
import socket
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.staging import AsyncStager

from learner.distributed import ranks
from learner.errors import CheckpointError, DamagedCheckpointError
from learner.extra import META, checkpoints, damage, read_meta
from learner.files import begin, replace_folder, sha256_of, staging_of

FORMAT = 1
# DCP's writers finish in minutes even for large models on network disks; beyond this the storage is gone.
WRITE_TIMEOUT_SECONDS = 3600.0
#: Size (bytes) and hash of files, by name.
Files = dict[str, tuple[int, str]]

_FILE_OF_RANK = re.compile(r"__(\d+)_")
T = TypeVar("T")


class Writer:
    """Writes the checkpoints of one trainer in the background, one at a time.

    The next one waits for the one before: it is written from memory that may be filled again, and its ranks meet in
    the same collectives.

    Args:
        stager: copies the state, see `learner.staging`; None: torch's own does. It is closed with the writer.
    """

    def __init__(self, stager: AsyncStager | None = None) -> None:
        self._stager = stager
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._latest: tuple[Path, Future[None], Future[Any]] | None = None

    def save_async(
        self, folder: Path, state: Mapping[str, Any], meta: Mapping[str, Any], keep_last: int
    ) -> Future[None]:
        """Copy a state now and write it in the background. With several ranks all must call this.

        Args:
            folder: place of the checkpoint.
            state: tensors by name, nested as torch DCP has them.
            meta: JSON beside the tensors.
            keep_last: checkpoints beside `folder`, itself included, that are kept; those called `step-NUMBER` count.

        Returns:
            A future that is done when `folder` is durable and older checkpoints are deleted, and that raises
            `CheckpointError`, on every rank; nothing is left of the new one then.

        Raises:
            CheckpointError: where it cannot even be begun.
        """
        staging = staging_of(folder)
        try:
            _on_all_ranks(partial(self._begin, folder), None)  # all give up, or none
            written = state_dict_saver.async_save(
                dict(state),
                checkpoint_id=staging,
                process_group=ranks.background_group(),
                async_stager=self._stager,
                no_dist=ranks.world_size() == 1,
            )
        except OSError as error:
            raise _not_written(folder, error) from error
        assert isinstance(written, Future)
        text = {"format": FORMAT, **meta}
        saved = self._executor.submit(_finish, written, staging, folder, text, keep_last)
        self._latest = folder, saved, written
        return saved

    def _begin(self, folder: Path) -> None:
        """Wait for the one before, and make the staging folder on the first rank."""
        if self._latest is not None:
            before, *pending = self._latest
            try:
                for future in pending:  # where the first gave the second one up, that may still read what was copied
                    future.exception(timeout=WRITE_TIMEOUT_SECONDS)
            except TimeoutError:
                raise OSError(
                    f"{before.name}, the one before, is still being written after {WRITE_TIMEOUT_SECONDS:g} s"
                ) from None
        if ranks.rank() == 0:
            begin(folder)

    def close(self) -> None:
        """Give the copies back, once they are written; nothing is waited for."""
        if self._stager is not None:
            self._executor.submit(self._stager.close)
        self._executor.shutdown(wait=False)


def _finish(written: Future[Any], staging: Path, folder: Path, meta: dict[str, Any], keep_last: int) -> None:
    group = ranks.background_group()
    try:
        written.result(timeout=WRITE_TIMEOUT_SECONDS)
        files: Files = {}
        for own in _on_all_ranks(partial(_own_files, staging), group):
            files |= own
        _on_all_ranks(partial(_require_files, staging, files), group)
        _on_all_ranks(partial(_seal, staging, folder, meta, files, keep_last), group)
    except (OSError, CheckpointException, TimeoutError) as error:
        if ranks.rank() == 0:
            shutil.rmtree(staging, ignore_errors=True)  # which gives its room back
        raise _not_written(folder, error) from error


def _on_all_ranks(work: Callable[[], T], group: Any) -> list[T]:
    """What some work returns on each rank, in the order of ranks, on every rank; JSON can hold it.

    Raises:
        OSError: on every rank, where it does so on one; the text says on which.
    """
    if ranks.world_size() == 1:
        return [work()]
    try:
        said: dict[str, Any] = {"returned": work()}
    except OSError as error:
        said = {"raised": f"rank {ranks.rank()} on {socket.gethostname()}: {error}"}
    answers = [json.loads(text) for text in ranks.gather_texts(json.dumps(said), group)]
    if raised := [answer["raised"] for answer in answers if "raised" in answer]:
        raise OSError("; ".join(raised))
    return [answer["returned"] for answer in answers]


def _own_files(staging: Path) -> Files:
    """The files that this rank has written, as its node sees them."""
    own = [path for path in sorted(staging.iterdir()) if _rank_of(path.name) == ranks.rank()]
    return {path.name: (path.stat().st_size, sha256_of(path)) for path in own}


def _rank_of(name: str) -> int:
    """Which rank has written a file of a checkpoint, of so many as there were then."""
    match = _FILE_OF_RANK.match(name)
    return int(match[1]) if match else 0


def _require_files(staging: Path, files: Files) -> None:
    """Raises OSError where this rank's node sees other files than the ranks have written.

    It reads those of one other rank, which is on another node where ranks are spread evenly over several.
    """
    # By name, since a network's file system may remember for a while what was in a folder.
    if missing := [name for name, (size, _) in sorted(files.items()) if _size(staging / name) != size]:
        raise OSError(
            f"it does not see {', '.join(missing[:3])} of {len(files)} files as they were written: its node sees "
            "another folder under this path; set output to storage that all of them share"
        )
    other = (ranks.rank() + ranks.world_size() // 2) % ranks.world_size()
    for name, (_, digest) in files.items():
        if _rank_of(name) == other != ranks.rank() and sha256_of(staging / name) != digest:
            raise OSError(f"{name} holds other bytes than rank {other} has written: the storage is damaged, or stale")


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _seal(staging: Path, folder: Path, meta: Mapping[str, Any], files: Files, keep_last: int) -> None:
    """Make it durable, on the first rank, and delete what is older."""
    if ranks.rank() == 0:
        sizes = {name: size for name, (size, _) in files.items()}
        hashes = {name: digest for name, (_, digest) in files.items()}
        (staging / META).write_text(json.dumps({**meta, "files": sizes, "sha256": hashes}))
        replace_folder(staging, folder)
        prune(folder, keep_last)


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
    """Fill the tensors of `state` from `folder`. With several ranks all must call this.

    Every rank looks for all files, and reads its share of them to see whether they hold what was written.

    Returns:
        The meta data that were saved beside them.

    Raises:
        DamagedCheckpointError: on every rank, where one of them sees a damaged one, or none; nothing was loaded.
        CheckpointError: where it fits another model or configuration.
    """
    if found := [what for what in _on_all_ranks(partial(_damage, folder), None) if what is not None]:
        raise DamagedCheckpointError(folder, found[0])
    if (number := read_meta(folder).get("format")) != FORMAT:
        raise CheckpointError(f"{folder} has checkpoint format {number}, and this version reads {FORMAT}")
    try:
        state_dict_loader.load(state, checkpoint_id=folder, no_dist=ranks.world_size() == 1)
    except (CheckpointException, OSError) as error:
        raise CheckpointError(
            f"{folder} does not fit this model and configuration, or is damaged: {_cause(error)[-500:]}"
        ) from error
    return read_meta(folder)


def _damage(folder: Path) -> str | None:
    """What is wrong with the files as this rank's node sees them, of which it reads its share."""
    rank, size = ranks.rank(), ranks.world_size()
    what = damage(folder, contents=True, among=lambda name: _rank_of(name) % size == rank)
    if what is None and not (folder / ".metadata").is_file():  # those of earlier releases do not list it
        what = ".metadata is missing"
    return what if what is None or size == 1 else f"rank {rank} on {socket.gethostname()}: {what}"


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


def prune(written: Path, keep_last: int) -> None:
    """Delete all but the `keep_last` newest whole checkpoints beside `written`; nothing else counts or is touched.

    Names and sizes decide what is whole: to hash all of them each time would read as much as is written. So one whose
    bytes have changed counts, and may take the place of an older one that is sound. What stays in any case is
    `written`, which was hashed just now: the last sound checkpoint is never deleted, even beside newer ones that are
    damaged and that no learner has set aside yet.
    """
    whole = [folder for folder in checkpoints(written.parent).values() if damage(folder) is None]
    for folder in whole[:-keep_last]:
        if folder != written:
            shutil.rmtree(folder, ignore_errors=True)  # the new one is durable, whatever becomes of the old ones
