"""What a stage's result depends on, as a tree that can be compared and hashed.

It is the resolved recipe without what does not change the result, in which every file is replaced by a hash of what is
in it, and whatever an earlier stage leaves by that stage's own hash. So a change anywhere shows in every stage that
depends on it, and nothing depends on where the folders are.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from actors.config.model import FolderModel
from actors.config.pipeline import Pipeline, Stage
from actors.config.resuming import changes_of
from actors.config.validation import quoted

#: Keys, and all under them, that say where and how fast a run works, how it is watched and what is kept of it.
NO_EFFECT = frozenset(
    {
        "name",
        "output",
        "checkpoint_every_steps",
        "controller",
        "network",
        "membership",
        "ray",
        "autoscale",
        "weights",
        "verifiers",
        "scorers",
        "preferences.judge.url",
        "preferences.judge.api_key_env",
        "preferences.judge.api_key_file",
        "preferences.judge.timeout_seconds",
        "preferences.judge.concurrency",
        "preferences.wait_seconds",
        "distillation.wait_seconds",
        "generators.count",
        "generators.cpus",
        "generators.gpus",
        "generators.startup_seconds",
        "replay.journal",
        "replay.max_message_bytes",
        "replay.max_progress_bytes",
        "replay.lease_seconds",
        "replay.verify_lease_seconds",
        "learner.cpus",
        "learner.gpus",
        "learner.gpu_memory",
        "learner.collective_seconds",
        "learner.checkpoint_keep_last",
        "learner.peak_teraflops",
        "learner.inspection_folder",
        "evaluation.every_steps",
        "evaluation.samples_between",
        "evaluation.stall_seconds",
    }
)
#: Of a folder's file that is larger than this, only the size and both ends are looked at (bytes): weights take minutes.
WHOLE_BYTES = 64 << 20
_END_BYTES = 1 << 20
#: What stands for a file that is not there yet.
ABSENT = "absent"

Identity = dict[str, Any]


def identities(pipeline: Pipeline) -> dict[str, Identity]:
    """What the result of each stage depends on, by its name."""
    found: dict[str, Identity] = {}
    for stage in pipeline.stages:
        hashes = {other.folder: f"stage {name} {hash_of(found[name])}" for name, other in _before(pipeline, stage)}
        recipe = _content(stage.recipe, "", hashes)
        if stage.data:
            recipe["cold_start"]["traces"] = [_named(path, hashes) for path in stage.data]
        found[stage.name] = json.loads(json.dumps(recipe))  # as it is read back
    return found


def hash_of(identity: Identity) -> str:
    """A hash of an identity."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def differences(before: Identity, now: Identity) -> list[str]:
    """What has changed, in words, key by key."""
    return [_change(key, *values) for key, values in changes_of(before, now).items()]


def _change(key: str, before: Any, now: Any) -> str:
    if isinstance(now, str) and now.startswith("stage ") and str(before).startswith(" ".join(now.split()[:2]) + " "):
        return f"stage {now.split()[1]} is another one"
    if any(str(value).startswith(("sha256 ", "stage ")) for value in (before, now)):
        return f"{key} is another file"
    return f"{key}: {quoted(before)} -> {quoted(now)}"


def _before(pipeline: Pipeline, stage: Stage) -> Iterator[tuple[str, Stage]]:
    return ((other.name, other) for other in pipeline.stages[: stage.number - 1])


def _content(value: Any, key: str, hashes: Mapping[Path, str]) -> Any:
    """A part of a recipe as JSON holds it, with what is in its files in place of their names."""
    if isinstance(value, Path):
        return _named(value, hashes)
    if isinstance(value, FolderModel) and Path(value.path).is_absolute():
        return {"kind": value.kind, "path": _named(Path(value.path), hashes)}
    if isinstance(value, BaseModel):
        stem = f"{key}." if key else ""
        fields = ((name, stem + name) for name in type(value).model_fields)
        return {name: _content(getattr(value, name), k, hashes) for name, k in fields if k not in NO_EFFECT}
    if isinstance(value, list | tuple):
        return [_content(item, f"{key}.{number}", hashes) for number, item in enumerate(value)]
    return value


def _named(path: Path, hashes: Mapping[Path, str]) -> str:
    for folder, known in hashes.items():
        if path.is_relative_to(folder):
            return f"{known} {path.relative_to(folder)}"
    return fingerprint(path)


def fingerprint(path: Path) -> str:
    """A hash of a file, or of the names and contents of all files in a folder; `absent` where there is nothing."""
    if path.is_file():
        return f"sha256 {_of_file(path)}"
    if not path.is_dir():
        return ABSENT
    found = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        found.update(f"{file.relative_to(path)}\0{_of_file(file)}\0".encode())
    return f"sha256 {found.hexdigest()}"


def _of_file(path: Path) -> str:
    with path.open("rb") as file:
        if (size := path.stat().st_size) <= WHOLE_BYTES:
            return hashlib.file_digest(file, "sha256").hexdigest()
        found = hashlib.sha256(f"{size} ".encode() + file.read(_END_BYTES))
        file.seek(-_END_BYTES, 2)
        found.update(file.read())
        return found.hexdigest()
