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
    preflight: Annotated[
        bool,
        typer.Option(help="Run nccl-tests over the ranks of the recipe's Ray cluster, and judge the network by it."),
    ] = False,
    at_least: Annotated[
        float, typer.Option(min=0.0, help="With --nccl or --preflight: the slowest broadcast that will do (GB/s).")
    ] = 0.0,
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
    if nccl is not None and preflight:
        raise RecipeError("--nccl judges a report, and --preflight makes one: give one of them")
    if nccl is not None:
        from actors.doctor.network import judged

        found = examine({"network": partial(judged, {str(nccl): _read(nccl)}, tree, at_least)})
    elif preflight:
        found = examine(_preflight(tree, at_least))
    else:
        found = examine(_checks(tree))
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
        "engine": partial(machine.engine, tree),
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
    return Finding(
        Fitness.WARNING, measured, "the recipe's weights go by NCCL: measure that in its cluster with --preflight"
    )


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise RecipeError(f"--nccl: {file} cannot be read ({error.strerror})") from error


def _preflight(tree: "Recipe", at_least: float) -> "dict[str, Check]":
    if find_spec("ray") is None:
        raise RecipeError("--preflight needs Ray: install leeway-rl with its extra `cuda`")
    from actors.doctor.network import judged
    from actors.doctor.preflight import ALL_REDUCE, measured

    reports = measured(tree)
    return {
        "broadcast": partial(judged, reports.broadcasts, tree, at_least),
        "all-reduce": partial(_arrived, tree, reports.all_reduce, ALL_REDUCE),
    }


def _arrived(tree: "Recipe", report: bytes, name: str) -> "Finding":
    from actors.doctor.findings import Finding, Fitness
    from actors.weights.bandwidth import of_nccl_tests

    return Finding(Fitness.OK, of_nccl_tests(report, tree.weights.bucket_bytes, name).described())


def _table(found: "dict[str, Finding]") -> Table:
    table = Table("", "", "measured", "what to do", box=None)
    for name, finding in found.items():
        fitness = f"[{COLOURS[finding.fitness]}]{finding.fitness}[/]"
        table.add_row(name, fitness, escape(finding.measured), escape(finding.advice))
    return table
