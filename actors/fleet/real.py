"""Faults in a real run: `leeway run` in a process of its own, whose processes are killed and suspended from outside."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psutil

from actors.config.loading import RECIPE, load
from actors.control import environment, reaper
from actors.control.cluster import guarded
from actors.deadline import until
from actors.errors import RunError
from actors.fleet.chaos import CALM_STEPS, Aftermath, play
from actors.fleet.faults import REAL_FAULTS, schedule
from actors.fleet.laws import broken_in_record
from actors.replay.journal import Journal
from learner.extra import CHECKPOINTS, checkpoints, read_extra

#: How Ray calls the process of each role.
TITLES = {
    "generator": "ray::Generator",
    "verifier": "ray::Verifier",
    "learner": "ray::Learner",
    "replay": "ray::ReplayRole",
    "controller": "ray::Controller",
}
#: What a run under faults is told beside its recipe: it goes on until it is stopped, and keeps what can be checked.
OVERRIDES = (
    *("steps=1000000", "checkpoint_every_steps=2", "evaluation.every_steps=0", "replay.journal.keep=all"),
    *("controller.restarts=1000000", "controller.hang_seconds=20", "membership.timeout_seconds=5"),
)
#: Longest start, recovery, end, and retraining of a real run (s).
STARTUP_SECONDS, CALM_SECONDS, END_SECONDS, REPLAY_SECONDS = 600.0, 300.0, 120.0, 3600.0


class RealProcess:
    """One process of the run."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def suspend(self, suspended: bool) -> None:
        self._signal(signal.SIGSTOP if suspended else signal.SIGCONT)

    def cut(self, cut: bool) -> None:
        raise NotImplementedError("links of real processes are not cut here")

    def slow(self, speed: float) -> None:
        raise NotImplementedError("real processes are not slowed here")

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):  # it has ended meanwhile
            os.kill(self._pid, number)


class RealRun:
    """`leeway run` under this process, from the constructor to `close`."""

    def __init__(self, recipe: Path, output: Path) -> None:
        self._output, self._mark = output, ""
        self._log = (output / "output.log").open("w")
        settings = (*OVERRIDES, f"output={output}")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "actors.cli", "run", str(recipe), *(f"-s{setting}" for setting in settings)],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def folder(self) -> Path:
        """The run folder. Raises RunError where there is none yet."""
        for path in self._output.glob("*/recipe.yaml"):
            return path.parent
        raise RunError(f"the run did not begin; see {self._log.name}")

    def events(self) -> list[dict[str, Any]]:
        files = list(self._output.glob("*/metrics.jsonl"))
        lines = files[0].read_text().splitlines() if files else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    @property
    def step(self) -> int:
        return max((event["step"] for event in self.events() if event["kind"] == "step"), default=0)

    def wait_for(self, what: str, condition: Callable[[], bool], seconds: float) -> None:
        """Raises RunError where the run ends before, or it takes too long."""
        if not until(lambda: condition() or self._process.poll() is not None, seconds, interval=0.5):
            raise RunError(f"waited {seconds:g} s for {what}; see {self._log.name}")
        if not condition():
            raise RunError(f"the run ended before {what}; see {self._log.name}")

    def victims(self, role: str) -> list[RealProcess]:
        """See `Afflicted`."""
        found = []
        for pid in sorted(reaper.marked(self.mark)):
            with suppress(OSError):
                if (Path("/proc") / str(pid) / "cmdline").read_bytes().startswith(TITLES[role].encode()):
                    found.append(RealProcess(pid))
        return found

    @property
    def mark(self) -> str:
        """What all processes of the run carry in their environment; empty before there are any."""
        if not self._mark:
            for child in psutil.Process(self._process.pid).children(recursive=True):
                with suppress(psutil.Error):
                    mark = child.environ().get(reaper.MARK, "")
                    self._mark = self._mark or (mark if mark != os.environ.get(reaper.MARK) else "")
        return self._mark

    def sleep_until(self, moment: float) -> None:
        """See `Afflicted`."""
        while (left := moment - time.monotonic()) > 0:
            with suppress(subprocess.TimeoutExpired):
                code = self._process.wait(min(left, 1.0))
                raise RunError(f"the run ended with exit code {code}; see {self._log.name}")

    def end(self) -> None:
        """Wind down; not by Ctrl-C, which whatever a shell has put into its background ignores.

        Raises:
            RunError: the run does not end.
        """
        os.kill(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise RunError(f"the run did not end within {END_SECONDS:g} s; see {self._log.name}") from error

    def left(self) -> list[int]:
        return [pid for pid in reaper.marked(self._mark) if reaper.alive(pid)]

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(END_SECONDS)
        self._log.close()


def broken_in_run(folder: Path, events: Sequence[Mapping[str, Any]]) -> list[str]:
    """Every law that does not hold in a run folder whose journal has kept all batches, see `actors.fleet.laws`.

    Args:
        folder: of a run that has ended, with a checkpoint.
        events: of its metrics.jsonl.
    """
    replay = load(folder / RECIPE).replay
    kept = {version: [head.group_id for head, _ in batch] for version, batch in Journal.read(folder, replay.shards)}
    newest = list(checkpoints(folder / CHECKPOINTS).values())[-1]
    return broken_in_record(events, kept, read_extra(newest)["replay"], replay.max_staleness)


def unleash_real(recipe: Path, output: Path, seconds: float, seed: int) -> Aftermath:
    """The same as `chaos.unleash` with a run of real engines and a real learner; its batches are trained again in the
    end, bit by bit.

    Args:
        recipe: the run's.
        output: folder for the run folder.
        seconds: how long faults befall it (s).
        seed: of the faults.

    Raises:
        RunError: the run failed, did not get on after the faults, or did not end.
    """
    aftermath = Aftermath()
    # However this process ends, the run ends with it: it would train for a million steps.
    with guarded(environment.describe(None)), closing(RealRun(recipe, output)) as run:
        run.wait_for("its first checkpoint after a step", lambda: run.step >= 2, STARTUP_SECONDS)
        began = time.monotonic()
        play(run, schedule(seed, seconds, REAL_FAULTS), aftermath.faults)
        run.sleep_until(began + seconds)
        step = run.step + CALM_STEPS
        run.wait_for(f"step {step}", lambda: run.step >= step, CALM_SECONDS)
        aftermath.seconds = time.monotonic() - began
        run.end()
        events = run.events()
        aftermath.steps = run.step
        aftermath.groups = [event["groups"] for event in events if event["kind"] == "tick"][-1]
        aftermath.broken = broken_in_run(run.folder, events)
        aftermath.broken += [f"processes: {pid} is left" for pid in run.left()]
        retrained = subprocess.run(
            [sys.executable, "-m", "actors.cli", "replay", str(run.folder)],
            capture_output=True,
            text=True,
            timeout=REPLAY_SECONDS,
            check=False,
        )
        if retrained.returncode:
            aftermath.broken.append(f"weights: {retrained.stderr.strip() or retrained.stdout.strip()[-500:]}")
    return aftermath
