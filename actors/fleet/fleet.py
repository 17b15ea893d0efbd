"""One synthetic fleet at work: the real controller over synthetic processes, from start to end."""

import json
import os
import secrets
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.util import get_temp_dir
from pathlib import Path
from typing import Any

from transformers.utils.logging import disable_progress_bar

from actors.config.recipe import Recipe
from actors.control import environment, reaper
from actors.control.cluster import guarded
from actors.control.controller import Predecessor
from actors.control.whereabouts import whereabouts
from actors.deadline import until
from actors.errors import RunError
from actors.fleet.desk import serve, serve_controller
from actors.fleet.learner import Pace
from actors.fleet.starter import FleetProcess, FleetStarter, Place, spawn
from learner.extra import CHECKPOINTS, checkpoints, read_extra

#: Longest start of a fleet (s): its processes are forked from a server that has to import everything once.
STARTUP_SECONDS = 300.0
#: Longest wait for the status page, and for the end of a controller that has wound down (s).
STATUS_SECONDS, EXIT_SECONDS = 5.0, 60.0
#: Generators that one process holds.
GENERATORS_PER_HOST = 250


class Fleet:
    """A run whose processes are children of this one. See `running`.

    Attributes:
        starter: of all processes but the controller.
        controllers: how many there were; one that dies is replaced, as `leeway run` does it.
    """

    def __init__(self, recipe: Recipe, folder: Path, models: Path, pace: Pace, place: Path) -> None:
        self.recipe, self.folder, self._models = recipe, folder, models
        hosts = -(-recipe.generators.count // GENERATORS_PER_HOST)
        self.starter = FleetStarter(max(1, hosts), pace)
        self.controllers = 0
        self._desk = str(place / f"desk-{secrets.token_hex(4)}"), secrets.token_bytes(16)
        serve(self.starter, *self._desk)
        self._outcome: str | None = None
        self._ended = threading.Event()
        self._stopping = False
        self._replacing = threading.Lock()
        self._status: Mapping[str, Any] = {}
        self._start(None)
        self._driver = threading.Thread(target=self._drive, name="driver", daemon=True)
        self._driver.start()

    def _start(self, predecessor: Predecessor | None) -> None:
        arguments = (self.recipe, self.folder, self._models, *self._desk, predecessor)
        self.controller, self._pipe = spawn("controller", serve_controller, *arguments)
        self.controllers += 1

    def victims(self, role: str) -> list[FleetProcess]:
        """See `Afflicted`."""
        if role != "controller":
            return self.starter.up(role)
        place = Place(self.controller, self._pipe, threading.Condition(), shared=False)
        return [FleetProcess(role, role, place)]

    def _drive(self) -> None:
        """Until the run ends; a controller that dies before is replaced."""
        while True:
            try:
                self._outcome = self._pipe.recv()
                break
            except (EOFError, OSError):
                with self._replacing:
                    if self._stopping:
                        self._outcome = "its controller died while winding down"
                        break
                    self._pipe.close()
                    self._start(Predecessor("died", "it was killed", time.time()))
        self.controller.join(EXIT_SECONDS)
        self._ended.set()

    @property
    def status(self) -> Mapping[str, Any]:
        """What the status page shows; what it showed last, where there is no controller now."""
        found = whereabouts(self.folder)
        try:
            with urllib.request.urlopen(f"{found.url}status" if found else "", timeout=STATUS_SECONDS) as page:
                self._status = json.load(page)
        except (OSError, ValueError):
            return self._status
        return self._status

    @property
    def step(self) -> int:
        return int(self.status.get("step", 0))

    def wait_for(self, what: str, condition: Callable[[], bool], seconds: float) -> None:
        """Raises RunError where the run ends, or the condition does not come true in time."""
        over = came_true = False

        def settled() -> bool:
            nonlocal over, came_true
            over = self._ended.is_set()  # before it looks: what has come true by then did so before the end
            came_true = condition()
            return came_true or over

        if not until(settled, seconds, interval=0.1):
            raise RunError(f"waited {seconds:g} s for {what}; see {self.folder}/logs")
        if not came_true:
            raise RunError(f"the run ended before {what}: {self._outcome or f'see {self.folder}/logs'}")

    def wait_for_step(self, step: int, seconds: float) -> None:
        self.wait_for(f"step {step}", lambda: self.step >= step, seconds)

    def sleep_until(self, moment: float) -> None:
        """Until a moment of the monotonic clock. Raises RunError where the run ends before."""
        while (left := moment - time.monotonic()) > 0:
            if self._ended.wait(min(left, 1.0)):
                raise RunError(f"the run ended: {self._outcome}")

    def end(self) -> None:
        """Wind down, as after Ctrl-C.

        Raises:
            RunError: the run failed, or does not end.
        """
        self.status  # noqa: B018 - the page goes with the controller
        self._stopping = True
        self._pipe.send("stop")
        if not self._ended.wait(self.recipe.controller.wind_down_seconds + EXIT_SECONDS):
            raise RunError(f"the controller did not end; see {self.folder}/logs/controller.log")
        if self._outcome is not None:
            raise RunError(f"the run failed: {self._outcome}")

    def close(self) -> None:
        """Kill whatever is left. A controller that dies by it is not replaced."""
        with self._replacing:
            self._stopping = True
            self.controller.kill()
        self._driver.join(EXIT_SECONDS)
        self._pipe.close()
        self.starter.close()

    def last_counters(self) -> dict[str, Any]:
        """The ledger's counters as they were recorded last."""
        ticks = [line for line in (self.folder / "metrics.jsonl").read_text().splitlines() if '"kind":"tick"' in line]
        found: dict[str, Any] = json.loads(ticks[-1])["groups"]
        return found

    def snapshot(self) -> dict[str, Any]:
        """The replay's position in the newest checkpoint."""
        newest = list(checkpoints(self.folder / CHECKPOINTS).values())[-1]
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
    place = Path(get_temp_dir())  # of multiprocessing, which outlives the run's own
    with guarded(environment.describe(None)):
        fleet = Fleet(recipe, folder, models, pace, place)
        try:
            yield fleet
        finally:
            fleet.close()


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
