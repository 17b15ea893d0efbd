"""`leeway doctor`: whether this machine can do what a recipe asks of it, before a run does."""

import json
import time
from dataclasses import asdict
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from actors.commands.options import Overrides
from actors.errors import RecipeError, RunError
from sandbox.terminal import lasting

if TYPE_CHECKING:
    from actors.config.recipe import Recipe
    from actors.doctor.findings import Check, Finding

COLOURS = {"ok": "green", "warning": "yellow", "failed": "red"}


def doctor(
    recipe: Annotated[Path, typer.Argument(help="Recipe that is to run here (YAML).")],
    nccl: Annotated[
        Path | None, typer.Option(help="Judge the network by this report of nccl-tests (broadcast_perf -J) alone.")
    ] = None,
    at_least: Annotated[float, typer.Option(min=0.0, help="With --nccl: the slowest that will do (GB/s).")] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    overrides: Overrides = None,
) -> None:
    """Check isolation, disks, checkpoints, shared memory, ports, clock, packages, GPUs and network, and say what to do.

    What the network can carry is left in bandwidth.json of the recipe's output folder, where runs read it. Exit code 1
    where a check has failed.
    """
    from actors.config.loading import load
    from actors.doctor.findings import Fitness, examine

    tree = load(recipe, overrides or ())
    found = examine({"network": partial(_nccl, tree, nccl, at_least)} if nccl else _checks(tree))
    if as_json:
        typer.echo(json.dumps({name: asdict(finding) for name, finding in found.items()}, indent=2))
    else:
        lasting(Console()).print(_table(found))
    if failed := [name for name, finding in found.items() if finding.fitness is Fitness.FAILED]:
        raise RunError(f"{', '.join(failed)}: not fit for this recipe")


def _checks(tree: "Recipe") -> "dict[str, Check]":
    from actors.doctor import disk, machine
    from actors.doctor.findings import without
    from actors.transport.address import resolve

    node = resolve(tree.network, tree.ray.address is not None)
    began = time.time(), time.monotonic()
    return {
        "packages": partial(machine.versions, _locked()),
        "isolation": partial(machine.isolation, tree),
        "output folder": partial(disk.disk, tree.output),
        "checkpoint": partial(disk.checkpoint, tree),
        "shared memory": machine.shared_memory,
        "ports": partial(machine.ports, tree, node),
        "GPUs": without("torch") or partial(machine.gpus, tree),
        "network": without("torch") or partial(_gloo, tree),
        "clock": partial(machine.clock, *began),
    }


def _locked() -> dict[str, str]:
    """The versions of the lock of a checkout; none in an installed package, or where there is no torch."""
    if find_spec("torch") is None:
        return {}
    import torch

    name = "cuda.lock" if torch.version.cuda else "cpu.lock"
    lock = Path(__file__).resolve().parents[2] / "requirements" / name
    lines = lock.read_text().splitlines() if lock.is_file() else []
    return dict(line.split("==", 1) for line in lines if "==" in line and not line.endswith("+cpu"))


def _gloo(tree: "Recipe") -> "Finding":
    from actors.doctor import broadcast
    from actors.doctor.findings import Finding, Fitness
    from actors.transport.address import resolve
    from actors.weights.bandwidth import Bandwidth

    rate = broadcast.measured(resolve(tree.network, tree.ray.address is not None))
    measured = f"Gloo, two processes of this machine: {rate / 1e9:.2f} GB/s"
    if tree.weights.backend == "gloo":
        found = Bandwidth(bytes_per_second=rate, message_bytes=broadcast.MESSAGE_BYTES, measured="Gloo, one machine")
        found.write(tree.output)
        return Finding(Fitness.OK, measured)
    return Finding(Fitness.WARNING, measured, "the recipe's weights go by NCCL: run deploy/preflight, and --nccl on it")


def _nccl(tree: "Recipe", file: Path, at_least: float) -> "Finding":
    from actors.doctor.findings import Finding, Fitness
    from actors.weights.bandwidth import of_nccl_tests

    try:
        data = file.read_bytes()
    except OSError as error:
        raise RecipeError(f"--nccl: {file} cannot be read ({error.strerror})") from error
    found = of_nccl_tests(data, tree.weights.bucket_bytes, str(file))
    measured = f"{found.bytes_per_second / 1e9:.2f} GB/s at {found.message_bytes / 2**20:.0f} MiB"
    if found.bytes_per_second < 1e9 * at_least:
        return Finding(Fitness.FAILED, measured, f"--at-least {at_least:g}: look at NCCL_DEBUG=INFO for what it chose")
    found.write(tree.output)
    return Finding(Fitness.OK, measured)


def _table(found: "dict[str, Finding]") -> Table:
    table = Table("", "", "measured", "what to do", box=None)
    for name, finding in found.items():
        fitness = f"[{COLOURS[finding.fitness]}]{finding.fitness}[/]"
        table.add_row(name, fitness, escape(finding.measured), escape(finding.advice))
    return table
