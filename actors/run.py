"""One run from the command line's point of view: a cluster, a controller, a display, and an end."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from actors.config.recipe import Recipe
from actors.control import environment
from actors.control.cluster import cluster, guarded
from actors.control.driven import Driven
from actors.control.environment import Environment
from actors.errors import RecipeError, RunError
from actors.folder import reopen
from actors.transport.keys import load as load_keys
from sandbox.interrupts import Interrupts


def surroundings(recipe: Recipe) -> Environment:
    """What this machine is like; nothing is written before it is known that the run can work here.

    Raises:
        RecipeError: there is no cluster at `ray.address`.
        RunError: the machine cannot run it, one line with every problem; or there are no keys, and there should be.
    """
    found = environment.describe(recipe.ray.address)
    if problems := environment.problems(found):
        raise (RecipeError if found.refusal else RunError)("; ".join(problems))
    if recipe.network.curve == "required" and recipe.ray.address is None:
        load_keys()
    return found


def execute(
    recipe: Recipe,
    folder: Path,
    resume: Path | None,
    step: int,
    screen: Callable[[dict[str, Any]], None],
    announce: Callable[[str], None],
    found: Environment,
    interrupts: Interrupts,
    keep: Sequence[int] = (),
) -> None:
    """Run to the end.

    Args:
        recipe: of the run.
        folder: the run folder.
        resume: the checkpoint to resume from.
        step: the step of that checkpoint.
        screen: sees every event as a dictionary.
        announce: is told what a user should know: the address of the live page, that the run winds down.
        found: what the machine is like.
        interrupts: the first one begins a graceful shutdown.
        keep: descriptors that stay open until the last process of the run has ended.

    Raises:
        RunError: the run failed.
        KeyboardInterrupt: it was interrupted, after a graceful shutdown.
    """
    with interrupts.deferred(), guarded(found, keep) as guard, cluster(recipe, folder, guard, interrupts):
        if interrupts.received is not None:
            raise KeyboardInterrupt
        driven = Driven(recipe, folder, resume, step, screen, announce, interrupts)
        if driven.watch():
            return
        seconds = recipe.controller.wind_down_seconds
        announce(f"interrupted: winding down, for {seconds:g} s at most; once more ends it at once")
        driven.stop()
        raise KeyboardInterrupt


def go_on(
    folder: Path,
    overrides: Sequence[str],
    console: Console,
    found: Environment,
    interrupts: Interrupts,
    keep: Sequence[int],
    notes: Sequence[str] = (),
) -> None:
    """Resume the run in a folder, after `notes` and whatever else whoever resumes it must know. See `show`.

    Raises:
        RecipeError: it cannot be resumed, or not so.
    """
    recipe, checkpoint, step, more = reopen(folder, overrides)
    for note in (*notes, *more):
        console.print(note, highlight=False, markup=False, soft_wrap=True)
    show(recipe, folder, checkpoint, step, console, found, interrupts, keep)


def show(
    recipe: Recipe,
    folder: Path,
    resume: Path | None,
    step: int,
    console: Console,
    found: Environment,
    interrupts: Interrupts,
    keep: Sequence[int] = (),
) -> None:
    """Run with a display on the terminal, and print the outcome. See `execute`.

    Raises:
        RunError: the run failed.
        KeyboardInterrupt: it was interrupted, after a graceful shutdown.
    """
    from actors.control.recording import run_info
    from actors.report.display import Display
    from actors.report.health import warnings
    from actors.report.outcome import print_outcome
    from actors.report.recorder import reopened
    from actors.report.summary import summarise

    state = reopened(run_info(recipe, folder), step if resume else None)

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    say(f"run folder: {folder}")
    try:
        with Display(state, console) as display:
            execute(recipe, folder, resume, step, display, say, found, interrupts, keep)
    finally:
        if state.step or state.evaluations or state.sampling:
            shown = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
            print_outcome(console, summarise(state), shown, warnings(state))
