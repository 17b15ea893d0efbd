"""What a checkpoint holds beside the tensors, and whether it is whole, for those who must know it without torch."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from learner.errors import CheckpointError
from learner.files import sha256_of, write_atomically

META = "learner.json"
#: The folder of a run that they are in.
CHECKPOINTS = "checkpoints"
#: Files that are hashed at a time: one core hashes more slowly than good storage reads.
READERS = 8
#: Copies with another ending, staging folders and whatever else stands beside checkpoints are none.
STEP = re.compile(r"step-(\d+)")


def checkpoint_name(step: int) -> str:
    """The name of a step's checkpoint; `checkpoints` finds it again."""
    return f"step-{step:06d}"


def checkpoints(parent: Path) -> dict[int, Path]:
    """The folders in `parent` that are called as checkpoints are, whole or not, by step in ascending order."""
    found = {int(match[1]): path for path in parent.glob("step-*") if (match := STEP.fullmatch(path.name))}
    return {step: found[step] for step in sorted(found) if found[step].is_dir()}


def newest_whole(parent: Path, *, contents: bool = False) -> tuple[int, Path] | None:
    """Step and place of the newest checkpoint in `parent` with which nothing is wrong; older ones are not looked at.

    Args:
        parent: the folder of a run that they are in.
        contents: see `damage`.
    """
    newest_first = reversed(checkpoints(parent).items())
    return next(((step, path) for step, path in newest_first if damage(path, contents=contents) is None), None)


def damage(folder: Path, *, contents: bool = False, among: Callable[[str], bool] = lambda _: True) -> str | None:
    """What is wrong with a checkpoint, as far as the names and sizes of its files tell; None where nothing is.

    A file of another step has the same name and the same size: only its contents tell.

    Args:
        folder: the checkpoint.
        contents: read files, too, and compare their hashes with those of when they were written.
        among: which files are read, by name; all of them, unless another process reads the others.
    """
    try:
        meta = read_meta(folder)
        for name, size in meta.get("files", {}).items():
            if (found := (folder / name).stat().st_size) != size:
                return f"{name} has {found} bytes of {size}"
        hashes = meta.get("sha256", {}) if contents else {}  # those of earlier releases have none
        names = list(filter(among, hashes))
        with ThreadPoolExecutor(READERS, thread_name_prefix="hash") as readers:
            for name, digest in zip(names, readers.map(lambda n: sha256_of(folder / n), names), strict=True):
                if digest != hashes[name]:
                    return f"{name} holds other bytes than were written"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError) as error:
        return f"{META} cannot be read ({error})"
    return None


def put_aside(damaged: Mapping[Path, str]) -> list[str]:
    """Rename damaged checkpoints, so that they are not taken for some again; returns a line about each.

    Args:
        damaged: what is wrong with each.
    """
    lines = []
    for path, what in damaged.items():
        aside = path.rename(path.with_name(f"{path.name}-damaged-{secrets.token_hex(2)}"))
        lines.append(f"{path.name} is damaged ({what}) and now called {aside.name}")
    return lines


def described(damaged: Mapping[Path, str]) -> str:
    """Checkpoints, and in brackets what is wrong with each."""
    return ", ".join(f"{path.name} ({what})" for path, what in damaged.items())


def read_extra(folder: Path) -> dict[str, Any]:
    """What the caller of `Trainer.save` stored beside the tensors, without loading them.

    Raises:
        CheckpointError: if `folder` is no checkpoint.
    """
    try:
        return dict(read_meta(folder)["extra"])
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{folder} is not a checkpoint ({error}); name a folder that Trainer.save wrote"
        ) from error


def update_extra(folder: Path, extra: Mapping[str, Any]) -> None:
    """Add to what is stored beside the tensors of a checkpoint, atomically.

    Raises:
        CheckpointError: if `folder` is no checkpoint, or cannot be written; it is as before then.
    """
    before = read_extra(folder)
    try:
        write_atomically(folder / META, json.dumps({**read_meta(folder), "extra": {**before, **extra}}))
    except OSError as error:
        raise CheckpointError(f"could not write {folder / META}: {error}") from error


def read_meta(folder: Path) -> dict[str, Any]:
    """What `learner.json` says of a checkpoint. Raises OSError or ValueError where it does not."""
    meta = json.loads((folder / META).read_text())
    if not isinstance(meta, dict):
        raise ValueError("not a JSON object")
    return meta
