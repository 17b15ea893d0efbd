"""The memory table of `leeway plan` and `leeway check`, and what `check` refuses by it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from actors.errors import RecipeError

if TYPE_CHECKING:
    from actors.config.recipe import Recipe
    from actors.planning.footprint import Footprint


def recipe_memory(recipe: "Recipe") -> "Sequence[Footprint]":
    """What a recipe's processes hold: of GPUs, of `learner.gpu_memory` or an H100's; of the others, on this machine.

    Raises:
        RecipeError: the sizes of its model are not known.
    """
    from actors.planning.architectures import architecture
    from actors.planning.footprint import machine_memory, on_this_machine, places
    from actors.planning.public import HARDWARE

    found = list(places(recipe, architecture(recipe.model), gpu=HARDWARE["h100"].memory, core=None))
    if recipe.ray.address is None and (here := on_this_machine(recipe, found, machine_memory())) is not None:
        found.append(here)
    return found


def refuse(found: "Sequence[Footprint]") -> None:
    """Refuse what cannot fit.

    Raises:
        RecipeError: it says what to change.
    """
    if lacking := [place.advice for place in found if not place.fits]:
        hint = "; a GPU is held to have 80 GB unless learner.gpu_memory says otherwise"
        gpus = any("learner" in place.name and place.capacity is not None and not place.fits for place in found)
        raise RecipeError(f"does not fit into memory: {'; '.join(lacking)}{hint * gpus}")


def memory_table(found: "Sequence[Footprint]", title: str = "memory") -> Table:
    """Parts down, places across (GB)."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE)
    table.add_column("GB", no_wrap=True)
    for place in found:
        table.add_column(place.name, justify="right")
    for part in dict.fromkeys(part for place in found for part in place.parts):
        table.add_row(part, *(_gigabytes(place.parts.get(part, 0.0)) for place in found))
    table.add_section()
    table.add_row("together", *(_gigabytes(place.total) for place in found))
    table.add_row("there is", *(_gigabytes(place.capacity or 0.0) for place in found))
    table.add_row("", *(_verdict(place) for place in found))
    return table


def _verdict(place: "Footprint") -> str:
    if not place.fits:
        return "[red]does not fit[/]"
    return "" if place.capacity is None else "fits"


def figure(value: float) -> str:
    """Three significant digits, written out."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _gigabytes(count: float) -> str:
    return figure(count / 1e9) if count else ""
