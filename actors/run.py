"""One run from the command line's point of view: a cluster, a controller, a display, and an end."""

import logging
import math
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from actors.config.recipe import Recipe
from actors.control import reaper
from actors.deadline import until
from actors.errors import RunError

log = logging.getLogger(__name__)

MODELS = Path("models")
#: How often the display asks the controller for news (s).
REFRESH_SECONDS = 0.5
#: Longest wait for the controller, which answers from a thread of its own, to say what is new (s).
NEWS_SECONDS = 30.0


@contextmanager
def guarded() -> Iterator[Path]:
    """A mark on this process and all that it starts, and a reaper that ends them with it.

    Yields a temporary folder for sockets, which goes with the run.
    """
    run = secrets.token_hex(8)
    folder = Path(tempfile.mkdtemp(prefix="leeway-"))
    environment = {k: v for k, v in os.environ.items() if k != reaper.MARK}
    watcher = subprocess.Popen(
        [sys.executable, "-I", "-S", reaper.__file__, run, str(folder)],
        stdin=subprocess.PIPE,
        start_new_session=True,
        env=environment,
    )
    assert watcher.stdin is not None
    os.set_inheritable(watcher.stdin.fileno(), False)
    # libraries put their sockets where these say; Unix socket paths must be short, and so is the folder's
    os.environ |= {reaper.MARK: run, "TMPDIR": str(folder), "VLLM_RPC_BASE_PATH": str(folder)}
    tempfile.tempdir = None
    try:
        yield folder
    finally:
        del os.environ[reaper.MARK], os.environ["TMPDIR"], os.environ["VLLM_RPC_BASE_PATH"]
        tempfile.tempdir = None
        watcher.stdin.close()
        try:
            watcher.wait(reaper.SWEEP_SECONDS + 5)
        except subprocess.TimeoutExpired:
            log.warning("the reaper has not finished; processes of this run may be left")


@contextmanager
def cluster(recipe: Recipe, temporary: Path) -> Iterator[None]:
    """Join the recipe's Ray cluster, or start a small one that ends with this process."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "CRITICAL"}
    if recipe.ray.address:
        options["address"] = recipe.ray.address
    else:
        options |= {
            "num_cpus": max(recipe.ray.num_cpus, math.ceil(recipe.cpus)),
            "include_dashboard": False,
            "object_store_memory": recipe.ray.object_store_bytes,
            "_temp_dir": str(temporary / "ray"),
        }
    try:
        ray.init(**options)
    except Exception as error:  # Ray raises bare exceptions, also where an overloaded machine starts too slowly
        raise RunError(f"Ray did not start: {error} Try again when the machine has less to do.") from error
    try:
        yield
    finally:
        ray.shutdown()


def execute(
    recipe: Recipe,
    folder: Path,
    resume: Path | None,
    step: int,
    screen: Callable[[dict[str, Any]], None],
    announce: Callable[[str], None],
) -> None:
    """Run to the end.

    Args:
        recipe: of the run.
        folder: the run folder.
        resume: the checkpoint to resume from.
        step: the step of that checkpoint.
        screen: sees every event as a dictionary.
        announce: is told the address of the live page.

    Raises:
        RunError: the run failed.
        KeyboardInterrupt: Ctrl-C, after a graceful shutdown.
    """
    with guarded() as temporary, cluster(recipe, temporary):
        import ray

        from actors.control.starter import root_cause

        driven = Driven(recipe, folder, resume, step, screen)
        try:
            announce(driven.wait_ready())
            driven.watch()
        except KeyboardInterrupt:
            driven.stop()
            raise
        except ray.exceptions.RayTaskError as error:
            raise RunError(root_cause(error)) from error
        except ray.exceptions.RayError as error:
            raise RunError(
                f"the controller died: {root_cause(error)}; see {folder}/logs/controller.log, then resume with "
                f"`leeway run --resume {folder}`"
            ) from error


class Driven:
    """The controller of a run, as the driver on the user's terminal sees it."""

    def __init__(
        self, recipe: Recipe, folder: Path, resume: Path | None, step: int, screen: Callable[[dict[str, Any]], None]
    ) -> None:
        import ray

        from actors.control.controller import Controller
        from actors.control.starter import RayStarter

        self._ray, self._config, self._screen = ray, recipe.controller, screen
        arguments = (recipe, folder, MODELS.absolute(), resume, step, RayStarter())
        actor: Any = ray.remote(Controller)
        self._actor = actor.options(num_cpus=0, max_concurrency=8).remote(*arguments)
        self._running = self._actor.run.remote()
        self._seen = 0

    def wait_ready(self) -> str:
        """The address of the live page, once the controller is up."""
        described = self._ray.get(self._actor.describe.remote(), timeout=self._config.startup_seconds)
        return str(described["url"])

    def watch(self) -> None:
        """Show events until the run ends, however long that takes. Raises what ended it."""
        while not self._step():
            continue
        self._ray.get(self._running, timeout=NEWS_SECONDS)

    def stop(self) -> None:
        """Ask the controller to wind down, and show what happens meanwhile for `controller.wind_down_seconds`."""
        self._actor.stop.remote()
        if not until(self._step, self._config.wind_down_seconds, interval=0.0):
            log.warning("the run did not wind down within %g s; it is killed", self._config.wind_down_seconds)

    def _step(self) -> bool:
        """Show the events of a moment; whether the run has ended."""
        done, _ = self._ray.wait([self._running], timeout=REFRESH_SECONDS)
        fresh, self._seen = self._ray.get(self._actor.events.remote(self._seen), timeout=NEWS_SECONDS)
        for event in fresh:
            self._screen(event)
        return bool(done)


def show(recipe: Recipe, folder: Path, resume: Path | None, step: int, console: Console) -> None:
    """Run with a display on the terminal, and print the outcome.

    Raises:
        RunError: the run failed.
        KeyboardInterrupt: Ctrl-C, after a graceful shutdown.
    """
    from actors.control.controller import run_info
    from actors.report.display import Display
    from actors.report.health import warnings
    from actors.report.outcome import print_outcome
    from actors.report.recorder import reopened
    from actors.report.summary import summarise

    state = reopened(run_info(recipe, folder), step if resume else None)
    console.print(f"run folder: {folder}", highlight=False, soft_wrap=True)
    try:
        with Display(state, console) as display:
            execute(recipe, folder, resume, step, display, lambda url: console.print(f"watch it at {url}"))
    finally:
        if state.step:
            shown = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
            print_outcome(console, summarise(state), shown, warnings(state))
