"""One run from the command line's point of view: a cluster, a controller, a display, and an end."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from actors.config.recipe import Recipe
from actors.control import environment
from actors.control.cluster import cluster, guarded
from actors.control.environment import Environment
from actors.deadline import until
from actors.errors import RecipeError, RunError
from actors.transport.keys import load as load_keys
from sandbox.interrupts import Interrupts

log = logging.getLogger(__name__)

#: How often the display asks the controller for news (s).
REFRESH_SECONDS = 0.5
#: Longest wait for the controller, which answers from a thread of its own, to say what is new (s).
NEWS_SECONDS = 30.0


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

    Raises:
        RunError: the run failed.
        KeyboardInterrupt: it was interrupted, after a graceful shutdown.
    """
    with interrupts.deferred(), guarded(found) as guard, cluster(recipe, guard, interrupts):
        import ray

        from actors.control.starter import root_cause
        from actors.control.supervisor import what_next

        if interrupts.received is not None:
            raise KeyboardInterrupt
        driven = Driven(recipe, folder, resume, step, screen, interrupts)
        try:
            if url := driven.wait_ready():
                announce(f"watch it at {url}")
                if driven.watch():
                    return
            seconds = recipe.controller.wind_down_seconds
            announce(f"interrupted: winding down, for {seconds:g} s at most; once more ends it at once")
            driven.stop()
            raise KeyboardInterrupt
        except ray.exceptions.RayTaskError as error:
            raise RunError(root_cause(error)) from error
        except ray.exceptions.GetTimeoutError as error:
            raise RunError(
                f"the controller hangs: it has not answered for {NEWS_SECONDS:g} s; see {folder}/logs/controller.log, "
                f"then {what_next(folder)}"
            ) from error
        except ray.exceptions.RayError as error:
            raise RunError(
                f"the controller died: {root_cause(error)}; see {folder}/logs/controller.log, then {what_next(folder)}"
            ) from error


class Driven:
    """The controller of a run, as the driver on the user's terminal sees it."""

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        resume: Path | None,
        step: int,
        screen: Callable[[dict[str, Any]], None],
        interrupts: Interrupts,
    ) -> None:
        import ray

        from actors.control.controller import Controller
        from actors.control.starter import RayStarter

        self._ray, self._config, self._screen, self._interrupts = ray, recipe.controller, screen, interrupts
        models = environment.models_folder(Path.cwd(), recipe.output)
        arguments = (recipe, folder, models, resume, step, RayStarter())
        actor: Any = ray.remote(Controller)
        self._actor = actor.options(num_cpus=0, max_concurrency=8).remote(*arguments)
        self._running = self._actor.run.remote()
        self._seen = 0

    def wait_ready(self) -> str | None:
        """The address of the live page, once the controller is up; None where the run is interrupted before.

        Raises:
            RunError: it does not come up within `controller.startup_seconds`.
        """
        described, seconds = self._actor.describe.remote(), self._config.startup_seconds

        def settled() -> bool:
            return self._interrupted or bool(self._ray.wait([described], timeout=REFRESH_SECONDS)[0])

        if not until(settled, seconds, interval=0.0):
            raise RunError(f"the controller did not come up within {seconds:g} s; see logs/controller.log")
        return None if self._interrupted else str(self._ray.get(described, timeout=NEWS_SECONDS)["url"])

    def watch(self) -> bool:
        """Show events until the run ends (True), however long that takes, or is interrupted. Raises what ended it."""
        while not self._step():
            if self._interrupted:
                return False
        self._ray.get(self._running, timeout=NEWS_SECONDS)
        return True

    def stop(self) -> None:
        """Ask the controller to wind down, and show what happens meanwhile for `controller.wind_down_seconds`."""
        self._actor.stop.remote()
        if not until(self._step, self._config.wind_down_seconds, interval=0.0):
            log.warning("the run did not wind down within %g s; it is killed", self._config.wind_down_seconds)

    @property
    def _interrupted(self) -> bool:
        return self._interrupts.received is not None

    def _step(self) -> bool:
        """Show the events of a moment; whether the run has ended."""
        done, _ = self._ray.wait([self._running], timeout=REFRESH_SECONDS)
        fresh, self._seen = self._ray.get(self._actor.events.remote(self._seen), timeout=NEWS_SECONDS)
        for event in fresh:
            self._screen(event)
        return bool(done)


def show(
    recipe: Recipe,
    folder: Path,
    resume: Path | None,
    step: int,
    console: Console,
    found: Environment,
    interrupts: Interrupts,
) -> None:
    """Run with a display on the terminal, and print the outcome. See `execute`.

    Raises:
        RunError: the run failed.
        KeyboardInterrupt: it was interrupted, after a graceful shutdown.
    """
    from actors.control.controller import run_info
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
            execute(recipe, folder, resume, step, display, say, found, interrupts)
    finally:
        if state.step:
            shown = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
            print_outcome(console, summarise(state), shown, warnings(state))
