"""One run from the command line's point of view: a folder, a cluster, a controller, a display, and an end."""

import logging
import math
import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from actors.config import checks as config_checks
from actors.config.loading import dump, load
from actors.config.recipe import Recipe
from actors.control import environment, reaper
from actors.control.environment import Environment
from actors.control.placement import processes, resources
from actors.deadline import until
from actors.errors import RecipeError, RunError
from actors.roles.verifier.preference import check_files
from actors.tasks import checks as task_checks
from sandbox.interrupts import Interrupts

log = logging.getLogger(__name__)

#: How often the display asks the controller for news (s).
REFRESH_SECONDS = 0.5
#: Longest wait for the controller, which answers from a thread of its own, to say what is new (s).
NEWS_SECONDS = 30.0
#: How often it is looked whether this process has left its cluster, and what it then has to do it in (s).
LEAVING_SECONDS = 0.3


def new_folder(recipe: Recipe) -> Path:
    """A fresh run folder that holds the resolved recipe.

    Raises:
        RecipeError: the recipe cannot be run, or the folder cannot be made.
    """
    require(recipe)
    folder = (recipe.output / f"{recipe.name}-{time.strftime('%Y%m%d-%H%M%S')}").absolute()
    if folder.exists():
        folder = folder.with_name(f"{folder.name}-{secrets.token_hex(2)}")
    try:
        folder.mkdir(parents=True)
        (folder / "recipe.yaml").write_text(dump(recipe), encoding="utf-8")
    except OSError as error:
        raise RecipeError(f"output: no run folder can be made in {recipe.output} ({error.strerror})") from error
    return folder


def reopen(folder: Path, overrides: Sequence[str]) -> tuple[Recipe, Path, int]:
    """The recipe of an earlier run, its newest checkpoint and that checkpoint's step.

    Raises:
        RecipeError: the folder is no run folder, or holds no checkpoint, or its recipe cannot be run.
    """
    if not os.access(folder / "recipe.yaml", os.R_OK):
        raise RecipeError(f"{folder}: not a run folder (it has no recipe.yaml that can be read)")
    checkpoints = sorted((folder / "checkpoints").glob("step-[0-9]*"))
    if not checkpoints:
        raise RecipeError(f"{folder}: there is no checkpoint yet; start over with `leeway run {folder}/recipe.yaml`")
    recipe = load(folder / "recipe.yaml", overrides)
    require(recipe, folder)
    return recipe, checkpoints[-1], int(checkpoints[-1].name.removeprefix("step-"))


def continuation(folder: Path) -> str:
    """What a user can do with the folder of a run that was interrupted."""
    if any((folder / "checkpoints").glob("step-[0-9]*")):
        return f"resume with `leeway run --resume {folder}`"
    return f"there is no checkpoint yet: start over with `leeway run {folder}/recipe.yaml`"


def require(recipe: Recipe, resumed: Path | None = None) -> None:
    """Refuse what can be known to be wrong before a process starts.

    Args:
        recipe: with absolute paths.
        resumed: the folder of the run that resumes.

    Raises:
        RecipeError: one line with every problem.
    """
    problems = config_checks.problems(recipe, resumed=resumed is not None)
    # lines are looked at where there is a file to read
    problems = problems or task_checks.problems(recipe, resumed=resumed is not None)
    if problems:
        raise RecipeError("; ".join(problems))
    check_files(recipe, resumed)


def surroundings(recipe: Recipe) -> Environment:
    """What this machine is like; nothing is written before it is known that the run can work here.

    Raises:
        RecipeError: there is no cluster at `ray.address`.
        RunError: the machine cannot run it; one line with every problem.
    """
    found = environment.describe(recipe.ray.address)
    if problems := environment.problems(found):
        raise (RecipeError if found.refusal else RunError)("; ".join(problems))
    return found


@dataclass(frozen=True, slots=True)
class Guard:
    """What `guarded` gives.

    Attributes:
        folder: for sockets; it goes with the run.
        end_processes: lets the reaper end every process of the run; returns at once.
    """

    folder: Path
    end_processes: Callable[[], None]


@contextmanager
def guarded(found: Environment) -> Iterator[Guard]:
    """A mark on all that this process starts, variables that suit the machine, and a reaper that ends them with it."""
    run = secrets.token_hex(8)
    folder = environment.temporary_folder()
    inherited = {k: v for k, v in os.environ.items() if k != reaper.MARK}
    watcher = subprocess.Popen(
        [sys.executable, "-I", "-S", reaper.__file__, run, str(folder)],
        stdin=subprocess.PIPE,
        start_new_session=True,
        env=inherited,
    )
    assert watcher.stdin is not None
    os.set_inheritable(watcher.stdin.fileno(), False)
    changed = environment.variables(found, folder) | environment.new_token(folder) | {reaper.MARK: run}
    try:
        with _environ(changed):
            yield Guard(folder, watcher.stdin.close)
    finally:
        watcher.stdin.close()
        try:
            watcher.wait(reaper.SWEEP_SECONDS + 5)
        except subprocess.TimeoutExpired:
            log.warning("the reaper has not finished; processes of this run may be left")


@contextmanager
def _environ(changed: Mapping[str, str | None]) -> Iterator[None]:
    """Environment variables of this process and its children for a while; None takes one away."""
    before = dict(os.environ)
    tempfile.tempdir = None
    for name, value in changed.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    try:
        yield
    finally:
        for name in changed:
            os.environ.pop(name, None)
        os.environ |= {name: before[name] for name in changed if name in before}
        tempfile.tempdir = None


@contextmanager
def cluster(recipe: Recipe, guard: Guard, interrupts: Interrupts) -> Iterator[None]:
    """Join the recipe's Ray cluster, or start a small one that ends with this process."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "CRITICAL"}
    if recipe.ray.address:
        options["address"] = recipe.ray.address
    else:
        options |= {
            "address": "local",
            "num_cpus": max(recipe.ray.num_cpus, math.ceil(recipe.cpus)),
            "include_dashboard": False,
            "object_store_memory": recipe.ray.object_store_bytes,
            "_temp_dir": str(guard.folder / "ray"),
        }
    try:
        _join(ray, options, interrupts)
    except Exception as error:  # Ray raises bare exceptions
        where = f"the cluster at {recipe.ray.address} cannot be joined" if recipe.ray.address else "Ray did not start"
        raise RunError(f"{where}: {error} Try again when the machine has less to do.") from error
    finally:
        interrupts.take_back()  # Ray handles SIGTERM in ways of its own, one of which prints a stack of C++
    try:
        if not recipe.ray.address:
            _require_gpus(recipe, ray.cluster_resources().get("GPU", 0.0))
        yield
    finally:
        if not recipe.ray.address:
            threading.Thread(target=_end_cluster, args=(ray, guard), name="cluster-end", daemon=True).start()
        ray.shutdown()


def _join(ray: Any, options: Mapping[str, Any], interrupts: Interrupts) -> None:
    """`ray.init`, once more where it fails: Ray gives its processes 30 s to start, which a busy machine exceeds."""
    try:
        ray.init(**options)
    except Exception as error:
        if interrupts.received is not None:
            raise
        log.warning("Ray did not start, and is started once more: %s", error)
        ray.shutdown()
        ray.init(**options)


def _require_gpus(recipe: Recipe, offered: float) -> None:
    """Raises RunError where the pools would wait for GPUs that this machine does not have."""
    roles = ("generator", "verifier", "learner")
    asked = sum(resources(recipe, role).gpus * processes(recipe, role) for role in roles)
    if asked > offered:
        shown = os.environ.get("CUDA_VISIBLE_DEVICES")
        hidden = "" if shown is None else f" (CUDA_VISIBLE_DEVICES is {shown!r})"
        raise RunError(
            f"the pools ask for {asked:g} GPUs (generators.gpus, learner.gpus), and this machine offers {offered:g}"
            f"{hidden}; lower them, or name a cluster in ray.address"
        )


def _end_cluster(ray: Any, guard: Guard) -> None:
    """End the processes of a cluster of our own once this process has left it.

    Ray asks each of them with SIGTERM, which they do not hear (see `Interrupts.deferred`), and waits a second for it.
    """
    while ray.is_initialized():
        time.sleep(LEAVING_SECONDS)
    time.sleep(LEAVING_SECONDS)
    guard.end_processes()


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

        if interrupts.received is not None:
            raise KeyboardInterrupt
        driven = Driven(recipe, folder, resume, step, screen, interrupts)
        try:
            if url := driven.wait_ready():
                announce(f"watch it at {url}")
                driven.watch()
            if interrupts.received is not None:
                seconds = recipe.controller.wind_down_seconds
                announce(f"interrupted: winding down, for {seconds:g} s at most; once more ends it at once")
                driven.stop()
                raise KeyboardInterrupt
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

    def watch(self) -> None:
        """Show events until the run ends, however long that takes, or is interrupted. Raises what ended it."""
        while not self._step():
            if self._interrupted:
                return
        self._ray.get(self._running, timeout=NEWS_SECONDS)

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
