"""`leeway chaos`: a synthetic fleet whose processes are killed, suspended and cut off at random."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from actors.errors import RecipeError
from sandbox.terminal import lasting


def chaos(
    minutes: Annotated[float, typer.Option(min=0.1, help="How long faults befall the fleet (min).")] = 10.0,
    seed: Annotated[int, typer.Option(help="Which faults, when, and whom they hit.")] = 0,
    generators: Annotated[int, typer.Option(min=1, help="Synthetic generators.")] = 200,
    verifiers: Annotated[int, typer.Option(min=1, help="Verifiers, each in a process of its own.")] = 2,
    shards: Annotated[int, typer.Option(min=1, help="Shards of the replay (replay.shards).")] = 1,
    real: Annotated[
        Path | None, typer.Option(metavar="RECIPE", help="Run this recipe instead, with its engines and its learner.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Folder for the run; default: a temporary one.")] = None,
) -> None:
    """Let faults befall a synthetic fleet, and check afterwards that nothing was lost, trained twice or too old.

    Exit code 1 where a law does not hold; each such law is one line.
    """
    from actors.config.loading import load
    from actors.fleet.chaos import unleash
    from actors.fleet.learner import Pace
    from actors.fleet.real import unleash_real
    from actors.fleet.recipe import fleet_recipe

    console = lasting(Console())
    folder = output.absolute() if output else Path(tempfile.mkdtemp(prefix="leeway-chaos-"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecipeError(f"--output: {folder} cannot be made ({error.strerror})") from error
    if any(folder.iterdir()):
        raise RecipeError(f"--output: {folder} is not empty; name another folder")
    what = f"{generators} generators" if real is None else str(real)
    console.print(f"{what}, {minutes:g} min, seed {seed}; run folder: {folder}", soft_wrap=True)
    if real is None:
        counts = {"generators.count": generators, "verifiers.count": verifiers, "replay.shards": shards}
        recipe = fleet_recipe(folder, list(counts.items()))
        outcome = unleash(recipe, folder, folder / "models", Pace(), 60 * minutes, seed)
    else:
        load(real)  # what is wrong with it is said before anything starts
        outcome = unleash_real(real, folder, 60 * minutes, seed)
    played = ", ".join(f"{role} {kind} {count}" for (role, kind), count in sorted(outcome.faults.items()))
    console.print(f"faults: {played or 'none'}", soft_wrap=True)
    console.print(f"{outcome.steps} steps in {outcome.seconds:.0f} s; groups: {outcome.groups}", soft_wrap=True)
    for law in outcome.broken:
        console.print(f"broken: {law}", style="red", soft_wrap=True, markup=False)
    if outcome.broken:
        raise typer.Exit(1)
    console.print("every law holds")
