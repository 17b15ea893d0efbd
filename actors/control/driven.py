"""The controller of a run, as the driver on the user's terminal sees it: started, shown, replaced where it dies.

started ──wait_ready──▶ watched ──▶ the run ends
   ▲                       │
   └───died, or hung───────┘  (another one, which adopts what lives)
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from actors.config.recipe import Recipe
from actors.control import environment
from actors.control.placement import resources
from actors.control.restarts import Restarts
from actors.errors import RunError
from actors.storage.mark import leave_mark
from sandbox.interrupts import Interrupts

log = logging.getLogger(__name__)

#: How often the display asks the controller for news (s).
REFRESH_SECONDS = 0.5


class _HangsError(Exception):
    """The controller does not answer."""


class Driven:
    """Not for several threads.

    Args:
        recipe: of the run.
        folder: the run folder.
        resume: the checkpoint to resume from.
        step: the step of that checkpoint.
        screen: sees every event as a dictionary.
        announce: is told where the live page is.
        interrupts: end the watching.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        resume: Path | None,
        step: int,
        screen: Callable[[dict[str, Any]], None],
        announce: Callable[[str], None],
        interrupts: Interrupts,
    ) -> None:
        import ray

        self._ray, self._recipe, self._folder, self._resume = ray, recipe, folder, (resume, step)
        self._screen, self._announce, self._interrupts = screen, announce, interrupts
        self._restarts = Restarts(recipe)
        self._mark = leave_mark(folder)
        self._shown_at = -1.0
        self._url = ""
        self._patience = recipe.membership.timeout_seconds + recipe.controller.hang_seconds
        self._start()

    def _start(self, predecessor: Any = None) -> None:
        from actors.control.controller import Controller
        from actors.control.starter import RayStarter

        models = environment.models_folder(Path.cwd(), self._recipe.output)
        actor: Any = self._ray.remote(Controller)
        arguments = (self._recipe, self._folder, models, *self._resume, RayStarter(), predecessor, self._mark)
        wanted = dict(resources(self._recipe, "controller").custom)
        self._actor = actor.options(num_cpus=0, resources=wanted, max_concurrency=8).remote(*arguments)
        self._running = self._actor.run.remote()
        self._began, self._seen, self._up = time.monotonic(), 0, False

    # ---------------------------------------------------------------- until the end

    def watch(self) -> bool:
        """Show events until the run ends (True), however long that takes, or is interrupted (False).

        Raises:
            RunError: the run failed, or controllers die too often.
        """
        while True:
            try:
                if (ended := self._until_ended()) is not None:
                    return ended
            except self._ray.exceptions.RayTaskError as error:
                raise RunError(self._root_cause(error)) from error
            except (self._ray.exceptions.RayError, _HangsError) as error:
                self._replace(error)

    def stop(self) -> None:
        """Ask the controller to wind down, and show what happens meanwhile for `controller.wind_down_seconds`."""
        seconds = self._recipe.controller.wind_down_seconds
        deadline = time.monotonic() + seconds
        try:
            self._actor.stop.remote()
            while not self._step(max(0.0, deadline - time.monotonic())):
                if time.monotonic() > deadline:
                    log.warning("the run did not wind down within %g s; it is killed", seconds)
                    return
        except _HangsError:
            log.warning("the controller does not answer; the run is killed")
        except self._ray.exceptions.RayTaskError as error:
            raise RunError(self._root_cause(error)) from error
        except self._ray.exceptions.RayError as error:
            raise self._died(f"the controller died while winding down: {self._root_cause(error)}") from error

    def _until_ended(self) -> bool | None:
        """True once the run has ended, False where it is interrupted."""
        if not self._up and not self._wait_ready():
            return False
        while not self._step(self._patience):
            if self._interrupted:
                return False
        self._ray.get(self._running, timeout=self._patience)
        return True

    def _wait_ready(self) -> bool:
        """Whether the controller is up; not where the run is interrupted before.

        Raises:
            RunError: it does not come up within `controller.startup_seconds`.
        """
        described, seconds = self._actor.describe.remote(), self._recipe.controller.startup_seconds
        while not self._ray.wait([described], timeout=REFRESH_SECONDS)[0]:
            if self._interrupted:
                return False
            if time.monotonic() - self._began > seconds:
                raise RunError(f"the controller did not come up within {seconds:g} s; see logs/controller.log")
        url, self._up = str(self._ray.get(described)["url"]), True
        if url != self._url:
            self._url = url
            self._announce(f"watch it at {url}")
        return True

    def _step(self, patience_seconds: float) -> bool:
        """Show the events of a moment; whether the run has ended.

        Raises:
            _HangsError: the controller, which answers from a thread of its own, has not said within its patience what
                is new. While it is waited for, an interrupt is noticed.
        """
        done, _ = self._ray.wait([self._running], timeout=REFRESH_SECONDS)
        news, deadline = self._actor.events.remote(self._seen), time.monotonic() + patience_seconds
        interrupted = self._interrupted
        while not self._ray.wait([news], timeout=REFRESH_SECONDS)[0]:
            if time.monotonic() > deadline:
                raise _HangsError
            if self._interrupted and not interrupted:
                return False
        fresh, self._seen = self._ray.get(news)
        for event in fresh:
            if event["seconds"] > self._shown_at:  # a controller that has taken over begins with what is on record
                self._screen(event)
        self._shown_at = max([self._shown_at, *(event["seconds"] for event in fresh)])
        return bool(done)

    @property
    def _interrupted(self) -> bool:
        return self._interrupts.received is not None

    # ---------------------------------------------------------------- where it dies

    def _replace(self, error: Exception) -> None:
        """Raises RunError where that is in vain."""
        from actors.control.controller import Predecessor

        seen, hangs = time.time(), isinstance(error, _HangsError)
        reason = f"it has not answered for {self._patience:g} s" if hangs else self._root_cause(error)
        what = f"the controller {'hangs' if hangs else 'died'}: {reason}"
        if not self._up:  # another one would do no better
            raise self._died(what) from error
        if self._restarts.used_up(self._began):
            window = self._recipe.controller.restart_window_seconds
            raise self._died(f"{what}, after {self._restarts.count} restarts of it within {window:g} s") from error
        log.warning("%s; another one takes its place", what)
        self._ray.kill(self._actor)
        self._start(Predecessor("hung" if hangs else "died", reason, seen))

    def _died(self, what: str) -> RunError:
        from actors.control.supervisor import what_next

        return RunError(f"{what}; see {self._folder}/logs/controller.log, then {what_next(self._folder)}")

    def _root_cause(self, error: Exception) -> str:
        from actors.control.starter import root_cause

        return root_cause(error)
