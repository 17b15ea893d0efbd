"""Runs of the real program, watched and killed from outside."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from actors.control.reaper import MARK
from actors.deadline import until

if TYPE_CHECKING:
    from tests.e2e.prometheus import Prometheus

ROOT = Path(__file__).resolve().parents[2]
#: A small and quick version of the quickstart recipe; each test says what it changes.
SMALL = {
    "steps": "4",
    "generators.engine": "transformers",
    "cold_start.supervised.max_steps": "10",
    "cold_start.stop_at_accuracy": "null",
    "tasks.held_out": "8",
    "evaluation.samples": "2",
    "evaluation.every_steps": "2",
    "replay.groups_per_batch": "4",
    "replay.group_size": "4",
    "generators.groups_in_flight": "4",
    "generators.sampling.max_tokens": "24",
    "checkpoint_every_steps": "2",
    "membership.timeout_seconds": "5",
}
#: A test ends within two minutes, or within so long on a machine that is starved (s).
TIMEOUT_SECONDS = 900
#: Steps of a run that goes on until it is told to end, however fast the machine is.
ENDLESS = "1000000"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TIMEOUT_SECONDS))


def events_of(path: Path) -> list[dict[str, Any]]:
    """The events on record, without a line of which only a part is written."""
    whole = path.read_bytes().rpartition(b"\n")[0]
    return [json.loads(line) for line in whole.split(b"\n") if line]


def suspend(process: psutil.Process) -> None:
    """Suspend a process, and return once none of its threads does anything any more, such as to write a file."""
    process.send_signal(signal.SIGSTOP)

    def stands() -> bool:
        threads = [stat.read_text() for stat in Path(f"/proc/{process.pid}/task").glob("*/stat")]
        return all(text.rpartition(")")[2].split()[0] == "T" for text in threads)

    assert until(stands, 60)


class Run:
    """One `leeway run` in a process of its own."""

    def __init__(self, folder: Path, arguments: list[str], seconds: float, inside: Sequence[str] = ()) -> None:
        self.output = folder / "output"
        self._deadline = time.monotonic() + seconds
        self._log = (folder / f"leeway-{time.monotonic_ns()}.log").open("w+")
        self.process = subprocess.Popen(
            [*inside, sys.executable, "-m", "actors.cli", "run", *arguments],
            cwd=ROOT,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._marks: set[bytes] = set()

    @property
    def folder(self) -> Path:
        (only,) = self.output.glob("*")
        return only

    def text(self) -> str:
        return Path(self._log.name).read_text()

    def events(self) -> list[dict[str, Any]]:
        files = list(self.output.glob("*/metrics.jsonl"))
        return events_of(files[0]) if files else []

    @property
    def steps(self) -> int:
        """How far it is, as far as that is on record."""
        return max((e["step"] for e in self.events() if e["kind"] == "step"), default=0)

    def happened(self, kind: str, **fields: Any) -> bool:
        """Whether an event with these fields is on record."""
        return any(e["kind"] == kind and fields.items() <= e.items() for e in self.events())

    def wait_for(self, what: str, condition: Callable[[], Any]) -> Any:
        """Poll until the condition is true; fails with the run's output where it ends or takes too long."""
        while True:
            # As of before it looks: what happens while it does was there in time, and before the run ended.
            late, over = time.monotonic() > self._deadline, self.process.poll() is not None
            if found := condition():
                return found
            assert not late, f"{what} did not happen in time:\n{self.text()[-3000:]}"
            assert not over, f"the run ended before {what}:\n{self.text()[-3000:]}"
            time.sleep(0.1)

    def wait_for_step(self, step: int) -> None:
        self.wait_for(f"step {step}", lambda: self.steps >= step)

    def end(self) -> int:
        """The exit code, once the run has ended by itself."""
        try:
            return self.process.wait(max(1.0, self._deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            pytest.fail(f"the run did not end:\n{self.text()[-3000:]}")

    def processes(self) -> list[psutil.Process]:
        """Everything that the run started, or each run of a pipeline, by the mark in the environment."""
        with suppress(psutil.Error):
            for child in psutil.Process(self.process.pid).children():
                with suppress(psutil.Error):
                    self._marks |= {mark.encode() for name, mark in child.environ().items() if name == MARK}
        return [p for p in psutil.process_iter() if self._marked(p)]

    def _marked(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get(MARK, "").encode() in self._marks and process.status() != "zombie"
        except psutil.Error:
            return False

    def named(self, title: str) -> psutil.Process:
        """The process of the run whose title contains a text; it waits for it to appear."""

        def find() -> psutil.Process | None:
            return next((p for p in self.processes() if title in " ".join(p.cmdline())), None)

        found: psutil.Process = self.wait_for(f"a process {title!r}", find)
        return found

    def temporary(self) -> Path:
        return Path(self.named("Controller").environ()["TMPDIR"])

    def kill(self, number: int = signal.SIGKILL) -> None:
        os.kill(self.process.pid, number)

    def tidy(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        self._log.close()


@contextmanager
def starting(folder: Path) -> Iterator[Callable[..., Run]]:
    """Start runs: `start(steps=3)`, `start(["--resume", folder])`; what is still alive afterwards is ended.

    `inside` is a command that runs the one behind it somewhere else, such as in a network namespace.
    """
    runs: list[Run] = []

    def begin(
        arguments: list[str] | None = None, seconds: float = 600.0, inside: Sequence[str] = (), **changes: str
    ) -> Run:
        if arguments is None:
            settings = SMALL | {"output": str(folder / "output")} | changes
            arguments = ["recipes/quickstart.yaml", *(f"-s{key}={value}" for key, value in settings.items())]
        runs.append(Run(folder, arguments, seconds, inside))
        return runs[-1]

    try:
        yield begin
    finally:
        for run in runs:
            run.tidy()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Starts runs of one test, see `starting`."""
    with starting(tmp_path) as begin:
        yield begin


@pytest.fixture
def watch(tmp_path: Path) -> "Iterator[Callable[..., Prometheus]]":
    """Start a Prometheus for a run by its status page: `watch(url)`, `watch(url, rules)`; it is ended with the test."""
    from tests.e2e.prometheus import SECONDS, Prometheus

    made: list[Prometheus] = []

    def begin(url: str, rules: Path | None = None) -> Prometheus:
        made.append(Prometheus(tmp_path, f"{url.rstrip('/')}/targets", rules))
        assert until(made[-1].ready, SECONDS), made[-1].text()
        return made[-1]

    yield begin
    for one in made:
        one.close()
