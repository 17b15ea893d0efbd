"""When a run ends because it cannot learn: so many groups were dropped that there is no hope for another batch."""

from pathlib import Path

from actors.config.recipe import Recipe
from actors.control.supervisor import what_next
from actors.errors import RunError
from actors.report import advice
from actors.report.state import RunState


def require_batches(recipe: Recipe, state: RunState, folder: Path) -> None:
    """Raises RunError where so many groups were dropped without a batch that there is no hope for one."""
    most = recipe.controller.fruitless_batches * recipe.replay.groups_per_batch
    dropped = state.fruitless
    if most and sum(dropped.values()) >= most:
        raise RunError(
            f"{sum(dropped.values())} groups were dropped in a row without one batch coming together "
            f"({advice.by_reason(dropped)}), which ends the run by controller.fruitless_batches: "
            f"{recipe.controller.fruitless_batches}. {advice.on_drops(dropped, state.refusals)} Then "
            f"{what_next(folder)}{_how_to_keep(folder, state.step)}"
        )


def _how_to_keep(folder: Path, step: int) -> str:
    """How to get a model out of a run that has nothing left to learn from: its checkpoint has all steps."""
    if not step:
        return ""
    keep = f"leeway run --resume {folder} -s steps={step}"
    return f"; where it has learned enough, `{keep}` evaluates and exports what it has learned"
