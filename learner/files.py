"""Folders that are whole or absent: written beside their place, made durable, and renamed."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path


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


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
