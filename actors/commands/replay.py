"""`leeway replay`: the steps of a run again, as they were or as they might have been."""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from actors.commands.options import Overrides
from actors.errors import RecipeError, RunError
from sandbox.terminal import lasting

if TYPE_CHECKING:
    from actors.roles.learner.retraining import Era, Plan, Retrained

#: What the table shows of every step; the files have all there is.
SHOWN = ("loss", "gradient_norm", "entropy", "behaviour_kl", "ratio_max", "clip_fraction_high", "trained_tokens")
#: Steps on the screen at most.
ROWS = 24

Statistics = Mapping[str, float]


def replay(
    run: Annotated[Path, typer.Argument(help="Folder of a run that kept its batches (replay.journal.keep: all).")],
    steps: Annotated[str, typer.Option(metavar="FIRST:LAST", help="Steps to train again; all by default.")] = ":",
    overrides: Overrides = None,
) -> None:
    """Train steps of a run again, bit by bit as they were, or with other settings of the learner."""
    from actors.folder import locked
    from actors.replay.journal import Journal
    from actors.roles.learner.retraining import retrain

    console, folder = lasting(Console()), run.absolute()
    with locked(folder):
        original = _original(folder)
        plan = _plan(folder, *_range(steps, max(original, default=0)), overrides or [])
        found = []

        def say(text: str) -> None:
            console.print(text, style="dim", highlight=False, markup=False, soft_wrap=True)

        for step in retrain(plan, Journal.read(folder, plan.eras[-1].recipe.replay.shards), say):
            found.append(step)
            if step.compared:
                say(f"step {step.step}: {_compared(step)}")
        place = _write(plan, found, original, overrides or [])
    console.print(_table(found, original))
    verdict = _verdict(plan, found)
    console.print(f"{verdict}; report: {place / 'report.md'}", highlight=False, markup=False, soft_wrap=True)
    if _broken(plan, found):
        raise RunError(f"{folder}: {verdict}")


# ---------------------------------------------------------------- what is asked for


def _range(text: str, newest: int) -> tuple[int, int]:
    """The first and the last step in `FIRST:LAST`, of which either may be missing."""
    first, colon, last = text.partition(":")
    try:
        found = (int(first or 1), int((last or newest) if colon else first))
    except ValueError as error:
        raise RecipeError(f"--steps {text}: expected FIRST:LAST, as in 100:140") from error
    if not 1 <= found[0] <= found[1]:
        raise RecipeError(f"--steps {text}: the run has the steps 1 to {newest}")
    return found


def _plan(folder: Path, first: int, last: int, overrides: Sequence[str]) -> "Plan":
    from actors.control.environment import models_folder
    from actors.models import prepare
    from actors.roles.learner.retraining import Plan

    eras = _eras(folder, first, overrides)
    recipe = eras[-1].recipe
    model = prepare(recipe.model, models_folder(Path.cwd(), recipe.output), recipe.seed)
    return Plan(folder, model, first, last, eras, compared=not overrides)


def _eras(folder: Path, first: int, overrides: Sequence[str]) -> list["Era"]:
    """What held when: a run that was resumed with other settings has kept the earlier ones. Overrides hold from the
    first step that is asked for."""
    from actors.config.loading import RECIPE
    from actors.config.what_if import what_if
    from actors.roles.learner.retraining import Era

    ends = {int(path.stem.rpartition("-")[2]): path for path in folder.glob("recipe-until-*.yaml")}
    files = [*(ends[step] for step in sorted(ends)), folder / RECIPE]
    recorded = list(zip([0, *sorted(ends)], files, strict=True))
    if not overrides:
        return [Era(after, what_if(file, [])) for after, file in recorded]
    before = [Era(after, what_if(file, [])) for after, file in recorded if after < first - 1]
    changed = {max(after, first - 1): file for after, file in recorded}  # of those that begin earlier the latest
    return [*before, *(Era(after, what_if(file, overrides)) for after, file in changed.items())]


def _original(folder: Path) -> dict[int, Statistics]:
    """The statistics of the run's own steps; of a step that was taken again, the later ones."""
    from actors.events import StepDone
    from actors.report.writer import read_back

    return {event.step: event.statistics for event in read_back(folder) if isinstance(event, StepDone)}


# ---------------------------------------------------------------- what came out


def _compared(step: "Retrained") -> str:
    if step.difference is None:
        return "bit-identical to its checkpoint"
    return f"differs from its checkpoint, first in {step.difference.name}, at most by {step.difference.largest:.3g}"


def _exact(plan: "Plan") -> bool:
    """Whether the same bits may be expected."""
    import torch

    learner = plan.eras[-1].recipe.learner
    on_gpu = learner.device != "cpu" and torch.cuda.is_available()
    return not on_gpu and learner.ranks == 1


def _broken(plan: "Plan", found: Iterable["Retrained"]) -> bool:
    return _exact(plan) and any(step.difference is not None for step in found)


def _verdict(plan: "Plan", found: Sequence["Retrained"]) -> str:
    """One line on how the steps compare with those of the run."""
    if not plan.compared:
        return f"steps {plan.first} to {plan.last} with other settings"
    checked = [step for step in found if step.compared]
    if not checked:
        return f"steps {plan.first} to {plan.last} trained again; the run has a checkpoint of none to compare them with"
    first = next((step for step in checked if step.difference is not None), None)
    if first is None:
        return f"bit-identical to the checkpoints of the steps {', '.join(str(step.step) for step in checked)}"
    why = "" if _exact(plan) else "; on GPUs, and on fewer ranks than the run had, sums are taken in another order"
    return f"step {first.step} {_compared(first)}{why}"


def _table(found: Sequence["Retrained"], original: Mapping[int, Statistics]) -> Table:
    table = Table(title="run → replay", title_justify="left")
    table.add_column("step", justify="right")
    for name in SHOWN:
        table.add_column(name, justify="right")
    for step in found[:: max(1, -(-len(found) // ROWS))]:
        table.add_row(*_row(step, original))
    return table


def _row(step: "Retrained", original: Mapping[int, Statistics]) -> list[str]:
    before = original.get(step.step, {})
    return [str(step.step), *(_beside(before.get(name), step.statistics.get(name)) for name in SHOWN)]


def _beside(before: float | None, after: float | None) -> str:
    texts = ["–" if value is None else f"{value:.4g}" for value in (before, after)]
    return texts[0] if before == after else " → ".join(texts)


def _write(
    plan: "Plan", found: Sequence["Retrained"], original: Mapping[int, Statistics], overrides: Sequence[str]
) -> Path:
    """The report beside the original: a table to read, and every statistic of every step."""
    place = plan.folder / "replays" / time.strftime("%Y%m%d-%H%M%S")
    while place.exists():
        place = place.with_name(f"{place.name}-again")
    place.mkdir(parents=True)
    settings = "".join(f"- `{text}`\n" for text in overrides) or "- none\n"
    header = ["step", *SHOWN]
    lines = [header, ["---:"] * len(header), *(_row(step, original) for step in found)]
    rows = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    text = f"# Steps {plan.first} to {plan.last} of {plan.folder.name}, trained again\n\n{_verdict(plan, found)}\n\n"
    text += f"Other settings:\n\n{settings}\nA pair is run → replay; one number stands for both.\n\n{rows}"
    (place / "report.md").write_text(text, encoding="utf-8")
    with (place / "statistics.jsonl").open("w", encoding="utf-8") as file:
        for step in found:
            values = {"run": original.get(step.step), "replay": step.statistics, "staleness": step.staleness}
            file.write(json.dumps({"step": step.step, **values}) + "\n")
    return place
