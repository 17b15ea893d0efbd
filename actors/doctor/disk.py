"""Checks of the disk that run folders are on: room, what a durable write takes, and what a checkpoint will."""

import os
import shutil
import time
from pathlib import Path

from actors.config.recipe import Recipe
from actors.doctor.findings import Finding, Fitness
from actors.planning.size import parameter_count

#: Below or above these a check warns: free room (bytes), speed of the disk (bytes/s), one fsync (s).
DISK_BYTES, DISK_SPEED, FSYNC_SECONDS = 20 * 2**30, 50e6, 0.05
#: What is written for a measurement (bytes): as a journal, durable every so often, and as a checkpoint, at the end.
JOURNAL_BYTES, SYNC_BYTES, CHECKPOINT_BYTES, PIECE_BYTES = 64 * 2**20, 8 * 2**20, 256 * 2**20, 2**20
FLOAT32 = 4


def disk(folder: Path) -> Finding:
    """Free room, and how fast a file becomes durable; what is written is deleted again."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    speed, sync = _write(folder, JOURNAL_BYTES, SYNC_BYTES)
    measured = f"{free / 2**30:.0f} GiB free, {speed / 1e6:.0f} MB/s, {1e3 * sync:.1f} ms a write that is durable"
    if free < DISK_BYTES:
        return Finding(Fitness.WARNING, measured, "make room, or name another folder: `output`")
    if speed < DISK_SPEED or sync > FSYNC_SECONDS:
        return Finding(Fitness.WARNING, measured, "a slow disk slows the replay: `replay.journal.durability: buffered`")
    return Finding(Fitness.OK, measured)


def checkpoint(recipe: Recipe) -> Finding:
    """How fast a large file becomes durable, and what that means for a checkpoint of the recipe's model."""
    recipe.output.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(recipe.output).free
    if free < 2 * CHECKPOINT_BYTES:
        room = f"{free / 2**20:.0f} MiB free, too little to measure with"
        return Finding(Fitness.FAILED, room, "make room, or name another folder: `output`")
    speed, _ = _write(recipe.output, CHECKPOINT_BYTES, CHECKPOINT_BYTES)
    measured = f"{CHECKPOINT_BYTES / 2**20:.0f} MiB with fsync at {speed / 1e6:.0f} MB/s"
    size = checkpoint_bytes(recipe)
    if size is None:
        return Finding(Fitness.OK, f"{measured}; the model is not here, so its size is not known")
    seconds, kept = size / speed, recipe.learner.checkpoint_keep_last + 1  # one more while the newest is written
    measured += f"; one of {size / 1e9:.2f} GB takes {seconds:.1f} s"
    if free < kept * size:
        return Finding(Fitness.FAILED, f"{measured}, and {kept} have no room", "make room, or another `output`")
    if seconds > recipe.controller.stop_seconds:
        late = "longer than a learner that is told to end has: raise `controller.stop_seconds` and `wind_down_seconds`"
        return Finding(Fitness.WARNING, measured, late)
    return Finding(Fitness.OK, measured)


def checkpoint_bytes(recipe: Recipe) -> int | None:
    """Weights, both moments of AdamW and the KL reference, all float32; of adapters the weights beneath them alone.

    None where the number of parameters is not known.
    """
    parameters = parameter_count(recipe.model)
    if parameters is None:
        return None
    if recipe.learner.lora is not None:
        return FLOAT32 * parameters
    return FLOAT32 * parameters * (3 if recipe.learner.objective.kl == "none" else 4)


def _write(folder: Path, size: int, sync_every: int) -> tuple[float, float]:
    """Write a file that is deleted again.

    Args:
        folder: on the disk that is measured.
        size: of the file (bytes).
        sync_every: the file is made durable each time that so much has been written (bytes).

    Returns:
        Speed of the whole (bytes/s), and the median time of an fsync (s).
    """
    path, piece, syncs = folder / f".doctor-{os.getpid()}", os.urandom(PIECE_BYTES), []
    began = time.monotonic()
    try:
        with path.open("wb", buffering=0) as file:
            for written in range(PIECE_BYTES, size + 1, PIECE_BYTES):
                file.write(piece)
                if written % sync_every == 0:
                    before = time.monotonic()
                    os.fsync(file.fileno())
                    syncs.append(time.monotonic() - before)
        return size / (time.monotonic() - began), sorted(syncs)[len(syncs) // 2]
    finally:
        path.unlink(missing_ok=True)
