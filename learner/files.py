"""Files and folders that are whole or absent: written beside their place, made durable, and renamed."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """An empty folder beside `folder`, which takes its place when the block ends, and is deleted where it fails."""
    staging = begin(folder)
    try:
        yield staging
        replace_folder(staging, folder)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def begin(folder: Path) -> Path:
    """A fresh staging folder for `folder`; what an earlier attempt has left in it is deleted."""
    staging = staging_of(folder)
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    return staging


def staging_of(folder: Path) -> Path:
    """Where `folder` is written before it is renamed; `tidy` knows such names."""
    return folder.with_name(f".{folder.name}.tmp")


def replace_folder(staging: Path, folder: Path) -> None:
    """Make `staging` durable, then put it in the place of `folder`."""
    for file in staging.rglob("*"):
        if file.is_file():
            _sync(file)
    _sync(staging)
    retired = None
    if folder.exists():
        # rename() replaces no filled folder: move the old one aside first, delete it last.
        retired = folder.with_name(f".{folder.name}.old-{uuid.uuid4().hex[:8]}")
        folder.rename(retired)
    staging.rename(folder)
    _sync(folder.parent)
    if retired is not None:
        shutil.rmtree(retired)


def write_atomically(path: Path, text: str) -> None:
    """Replace `path` by `text` in UTF-8; after a crash the file holds either the old or the new text.

    Raises:
        OSError: it cannot be written; the file holds the old text.
    """
    draft = staging_of(path)
    try:
        with draft.open("wb") as file:
            file.write(text.encode("utf-8", "replace"))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def sha256_of(path: Path) -> str:
    """The hash of a file's content, as `sha256sum` prints it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tidy(parent: Path) -> None:
    """Clear away what a crash has left in `parent`, while nobody else writes there.

    A folder that was moved aside for its successor comes back where the crash was between the two renames.
    """
    for retired in parent.glob(".*.old-*"):
        place = parent / retired.name[1:].rpartition(".old-")[0]
        if place.exists():
            shutil.rmtree(retired, ignore_errors=True)
        else:
            retired.rename(place)
    for staging in parent.glob(".*.tmp"):
        if staging.is_dir():
            shutil.rmtree(staging, ignore_errors=True)
        else:
            staging.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
