"""Completions of an evaluation that are kept: a line of JSON each, with where it is from, in a file of the run folder.

The journal's state says how long the file is. Lines are written before the transaction that counts them, at the byte
where the counted ones end: what a killed replay has written and not counted is written over, so that no completion is
lost and none is there twice.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from actors.errors import JournalBlockedError
from actors.replay.queues import Entry
from actors.replay.records import GroupRecord


class KeptFiles:
    """The files of completions in a run folder.

    Args:
        folder: the run folder.
        sync: whether to wait for the disk.
    """

    def __init__(self, folder: Path, sync: bool) -> None:
        self._folder, self._sync = folder, sync

    def write(self, pieces: Iterable[tuple[str, int, bytes]]) -> None:
        """Write every piece, (name of the file, byte at which it begins, content), which is then the end of its file.

        Raises:
            JournalBlockedError: one cannot be written now; to write all of them again later does no harm.
        """
        for name, start, content in pieces:
            path = self._folder / name
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
                try:
                    os.ftruncate(descriptor, start)
                    _write_all(descriptor, start, content)
                    if self._sync:
                        os.fsync(descriptor)
                finally:
                    os.close(descriptor)
            except OSError as error:
                raise JournalBlockedError(f"{path}: cannot be written ({error.strerror})") from error


def _write_all(descriptor: int, start: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        written = os.pwrite(descriptor, left, start)
        left, start = left[written:], start + written


def rows_of(entry: Entry, record: GroupRecord, provenance: Mapping[str, str | int]) -> bytes:
    """The lines of a group that was scored."""
    return b"".join(_line(row) for row in _rows(entry, record, provenance))


def _line(row: Mapping[str, Any]) -> bytes:
    return (json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "replace")


def _rows(entry: Entry, record: GroupRecord, provenance: Mapping[str, str | int]) -> Iterator[dict[str, Any]]:
    assert record.payload is not None
    task = record.task
    asked = {
        "task": task["key"],
        "number": entry.task,
        "source": task["source"],
        "verifier": task["verifier"],
        "messages": [{"role": role, "content": content} for role, content in task["messages"]],
        "prompt": record.prompt,
    }
    for index, (text, score) in enumerate(zip(record.texts, record.scores, strict=True)):
        yield {
            **asked,
            "sample": index,
            "response": text,
            **score.model_dump(),
            "tokens": int(record.payload.lengths[index]),
            "truncated": bool(record.payload.truncated[index]),
            "version_min": entry.oldest,
            "version_max": entry.newest,
            **provenance,
        }
