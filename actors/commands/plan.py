"""`leeway plan`: what a recipe will need and do, before anything runs."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from actors.commands.memory import figure, memory_table
from actors.commands.options import Overrides
from actors.errors import RecipeError, RunError
from sandbox.terminal import lasting

if TYPE_CHECKING:
    from actors.planning.architectures import ModelShape
    from actors.planning.footprint import Footprint
    from actors.planning.forecast import Forecast


def plan(
    recipe: Annotated[Path, typer.Argument(help="Recipe to plan (YAML).")],
    overrides: Overrides = None,
    generators: Annotated[
        str | None, typer.Option(metavar="N,N,…", help="Numbers of generators; default: the recipe's.")
    ] = None,
    measured_by: Annotated[
        Path | None, typer.Option("--from", metavar="RUN", help="Take speeds and lengths from this run's folder.")
    ] = None,
    hardware: Annotated[str | None, typer.Option(help="a100, h100, h200 or cpu; by default h100 or cpu.")] = None,
    mfu: Annotated[float, typer.Option(min=0.01, max=1.0, help="Model FLOP utilisation of the learner.")] = 0.35,
    use: Annotated[float, typer.Option(min=0.01, max=1.0, help="Share of the data sheet that engines reach.")] = 0.5,
    mean_tokens: Annotated[
        float | None, typer.Option(min=1, help="Mean length of a completion; default: a third of the longest.")
    ] = None,
    sigma: Annotated[float, typer.Option(min=0.0, help="Standard deviation of the logarithm of the length.")] = 0.8,
    pass_rate: Annotated[float, typer.Option(min=0.0, max=1.0, help="Mean share of right completions.")] = 0.5,
    verify_seconds: Annotated[float, typer.Option(min=0.0, help="Verification of one completion (s).")] = 0.005,
    step_seconds: Annotated[
        float | None, typer.Option(min=0.0, help="A step of the learner (s); default: by its FLOP.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a recipe needs and does: memory of every rank, throughput, bottleneck, staleness, bandwidth, cost.

    Nothing is started, and no network is used. Exit code 1 where it does not fit into memory.
    """
    from actors.config.loading import load
    from actors.planning.architectures import architecture
    from actors.planning.costs import update_bytes
    from actors.planning.footprint import places
    from actors.planning.forecast import forecast
    from actors.planning.measured import as_measured, measured
    from actors.planning.public import HARDWARE
    from actors.planning.rates import Assumptions, hardware_of, rates_of

    tree = load(recipe, overrides or ())
    counts = _counts(generators, tree.generators.count)
    assumed = Assumptions(
        hardware=hardware,
        mfu=mfu,
        use=use,
        mean_tokens=mean_tokens,
        sigma=sigma,
        pass_rate=pass_rate,
        verify_seconds=verify_seconds,
        step_seconds=step_seconds,
    )
    a = architecture(tree.model)
    device = HARDWARE[hardware_of(tree, assumed)].memory
    memory = places(tree, a, gpu=device, core=device)
    console = lasting(Console())
    if not as_json:
        _say_sizes(a, update_bytes(tree, a), memory, console)
    rates = rates_of(tree, a, assumed)
    if measured_by is not None:
        rates = as_measured(rates, tree, measured(measured_by), measured_by.name)
    found = [forecast(tree, a, rates, count) for count in counts]
    if as_json:
        fits = {place.name: {**place.parts, "capacity": place.capacity} for place in memory}
        typer.echo(json.dumps({"memory": fits, "fleets": list(map(asdict, found)), "from": rates.origin}, indent=2))
    else:
        console.print(_fleets(found, "GPU" if tree.learner.gpus or tree.generators.gpus else "CPU"))
        for line in (f"a weight update takes {figure(rates.transfer_seconds)} s", *rates.origin):
            console.print(f"- {line}", style="dim", highlight=False, markup=False, soft_wrap=True)
    if lacking := [place.name for place in memory if not place.fits]:
        raise RunError(f"{recipe}: does not fit into memory: {'; '.join(lacking)}")


def _say_sizes(a: "ModelShape", sent: float, memory: "Sequence[Footprint]", console: Console) -> None:
    active = f", {figure(a.active_parameters / 1e9)} G of them active" if a.experts else ""
    text = f"{figure(a.parameters / 1e9)} G parameters{active}; a weight update is {figure(sent / 1e9)} GB"
    console.print(text, highlight=False, soft_wrap=True)
    console.print(memory_table(memory))


def _counts(text: str | None, own: int) -> list[int]:
    if text is None:
        return [own]
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) for part in parts):
        raise RecipeError(f"--generators {text}: numbers above 0 and commas, as in 1000,10000")
    return [int(part) for part in parts]


def _fleets(found: "Sequence[Forecast]", device: str) -> Table:
    table = Table("generators", title="fleet", title_justify="left", box=box.SIMPLE)
    for one in found:
        table.add_column(str(one.generators), justify="right")

    def row(name: str, *cells: str) -> None:
        table.add_row(name, *cells)

    row("bottleneck", *(one.bottleneck for one in found))
    row("groups/s", *(figure(one.groups_per_second) for one in found))
    row("trained tokens/s", *(f"{one.tokens_per_second:,.0f}" for one in found))
    row("from step to step (s)", *(figure(one.step_seconds) for one in found))
    for role in ("generator", "verifier", "learner"):
        row(f"{role} busy", *(f"{one.busy[role]:.0%}" for one in found))
    row("staleness, mean and most", *(f"{one.staleness_mean:.2g}, {one.staleness_max}" for one in found))
    row("groups dropped", *(f"{sum(one.dropped.values()):.1%}" for one in found))
    row("groups ready, in the mean", *(f"{one.queue:.0f}" for one in found))
    row("weight updates (MB/s)", *(figure(one.bandwidth / 1e6) for one in found))
    row("hours for all steps", *(figure(one.hours) for one in found))
    row(f"{device}-hours", *(figure(one.device_hours) for one in found))
    return table
