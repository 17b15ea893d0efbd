"""One synthetic fleet at work: the real controller over synthetic processes, from start to end."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.util import get_temp_dir
from pathlib import Path
from typing import Any

from transformers.utils.logging import disable_progress_bar

from actors.config.recipe import Recipe
from actors.control import environment, reaper
from actors.control.cluster import guarded
from actors.control.controller import Controller
from actors.deadline import until
from actors.errors import RunError
from actors.fleet.learner import Pace
from actors.fleet.starter import FleetStarter
from learner.extra import checkpoints, read_extra

#: Longest start of a fleet (s): its processes are forked from a server that has to import everything once.
STARTUP_SECONDS = 300.0
#: Generators that one process holds.
GENERATORS_PER_HOST = 250


class Fleet:
    """A run in a thread of this process. See `running`."""

    def __init__(self, recipe: Recipe, folder: Path, models: Path, pace: Pace) -> None:
        self.recipe, self.folder = recipe, folder
        hosts = -(-recipe.generators.count // GENERATORS_PER_HOST)
        self.starter = FleetStarter(max(1, hosts), pace)
        self._controller = Controller(recipe, folder, models, None, 0, self.starter)
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="run", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._controller.run()
        except Exception as error:  # noqa: BLE001 - raised again by whoever waits for the run
            self._error = error

    @property
    def status(self) -> Mapping[str, Any]:
        """What the status page shows."""
        return self._controller.status()

    def events(self) -> list[dict[str, Any]]:
        return self._controller.events(0)[0]

    def wait_for(self, what: str, condition: Callable[[], bool], seconds: float) -> None:
        """Raises RunError where the run ends, or the condition does not come true in time."""

        def settled() -> bool:
            return condition() or not self._thread.is_alive()

        if not until(settled, seconds, interval=0.05):
            raise RunError(f"waited {seconds:g} s for {what}; see {self.folder}/logs")
        if not condition():
            raise RunError(f"the run ended before {what}: {self._error or f'see {self.folder}/logs'}")

    def wait_for_step(self, step: int, seconds: float) -> None:
        self.wait_for(f"step {step}", lambda: self.status["step"] >= step, seconds)

    def sleep_until(self, moment: float) -> None:
        """Until a moment of the monotonic clock. Raises RunError where the run ends before."""
        while (left := moment - time.monotonic()) > 0:
            self._thread.join(min(left, 1.0))
            if not self._thread.is_alive():
                raise RunError(f"the run ended: {self._error}")

    def end(self) -> None:
        """Wind down, as after Ctrl-C.

        Raises:
            RunError: the run failed, or does not end.
        """
        self._controller.stop()
        self._thread.join(self.recipe.controller.wind_down_seconds + 60)
        if self._thread.is_alive():
            raise RunError(f"the controller did not end; see {self.folder}/logs/controller.log")
        if self._error is not None:
            raise RunError(f"the run failed: {self._error}") from self._error

    def snapshot(self) -> dict[str, Any]:
        """The replay's position in the newest checkpoint."""
        newest = list(checkpoints(self.folder / "checkpoints").values())[-1]
        found: dict[str, Any] = read_extra(newest)["replay"]
        return found

    def left(self) -> list[str]:
        """Processes of the run that have not ended with it, but for the server that they were forked from."""
        self.starter.close()
        return [f"{pid} ({_title(pid)})" for pid in reaper.marked(os.environ[reaper.MARK]) if not _ours(pid)]


@contextmanager
def running(recipe: Recipe, folder: Path, models: Path, pace: Pace) -> Iterator[Fleet]:
    """A fleet that starts now; whatever is left of it afterwards is killed."""
    disable_progress_bar()  # type: ignore[no-untyped-call]  # a model may have to be made first
    get_temp_dir()  # of multiprocessing, which outlives the run's own
    with guarded(environment.describe(None)):
        fleet = Fleet(recipe, folder, models, pace)
        try:
            yield fleet
        finally:
            fleet.starter.close()


def _title(pid: int) -> str:
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:200]
    except OSError:
        return "gone"


def _ours(pid: int) -> bool:
    """Whether a process is a child of this one, which `multiprocessing` started for itself, or has ended."""
    try:
        fields = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return True
    return int(fields[1]) == os.getpid() or not reaper.alive(pid)
