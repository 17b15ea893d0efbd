"""Two clusters: a run in one network namespace, a generator that joins it from another, and a long wire between them.

Each has an address of its own, and messages are encrypted.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from actors.transport import keys
from tests.e2e.conftest import ENDLESS, ROOT, Run
from tests.e2e.wide_area import Wire, possible, wire

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(not possible(), reason="makes network namespaces and devices")]

Start = Callable[..., Run]
RUN, JOINED = "10.99.0.1", "10.99.0.2"
PORT = 39500
#: Of the wire: 20 ms each way, and one packet in a hundred is lost.
DELAY_SECONDS, LOSS = 0.02, 0.01
#: Longest time without a heartbeat in this run (s).
TIMEOUT = 3.0
SMALL = {
    "generators.engine": "synthetic",
    "generators.count": "0",
    "generators.synthetic.tokens_per_second": "200",
    "generators.drain_seconds": "10",
    "network.joining": "[generator]",
    "network.curve": "required",
    "network.ports.replay": str(PORT),
    "network.advertise": RUN,
    "steps": ENDLESS,
    "checkpoint_every_steps": "50",
    "membership.heartbeat_seconds": "0.5",
    "membership.timeout_seconds": str(TIMEOUT),
    "weights.deadline_seconds": "5",
    "cold_start": "null",
    "evaluation.every_steps": "0",
    "evaluation.samples": "1",
    "tasks.held_out": "4",
}


@pytest.fixture
def keys_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of the run; a client that joins has a folder of its own in it."""
    keys.create(tmp_path / "keys")
    keys.add(tmp_path / "keys", "elsewhere")
    monkeypatch.setenv(keys.FOLDER, str(tmp_path / "keys"))
    return tmp_path / "keys"


def inside(namespace: str) -> tuple[str, ...]:
    return ("ip", "netns", "exec", namespace)


class Joined:
    """A generator that `leeway up` has started in the other namespace."""

    def __init__(self, namespace: str, folder: Path, given: Path) -> None:
        self.folder = folder
        changes = [f"-s{key}={value}" for key, value in (SMALL | {"network.advertise": "null"}).items()]
        command = ["up", "recipes/quickstart.yaml", "--role", "generator", "--join", f"tcp://{RUN}:{PORT}", *changes]
        self._log = folder.with_suffix(".txt").open("w+")
        self.process = subprocess.Popen(
            [*inside(namespace), sys.executable, "-m", "actors.cli", *command, "--folder", str(folder)],
            cwd=ROOT,
            env={**os.environ, keys.FOLDER: str(given)},
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def text(self) -> str:
        logs = [Path(self._log.name), *self.folder.glob("logs/*.log")]
        return "\n".join(path.read_text()[-2000:] for path in logs)

    def end(self, seconds: float = 60.0) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def tidy(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        self._log.close()


def synchronised(run: Run) -> int:
    return sum(event["kind"] == "weight_sync" for event in run.events())


def test_a_generator_elsewhere_joins_loses_its_link_and_is_taken_back(
    start: Start, keys_folder: Path, tmp_path: Path
) -> None:
    with wire((RUN, JOINED), DELAY_SECONDS, LOSS) as between:
        run = start(inside=inside(between.here), **SMALL)
        joined = Joined(between.there, tmp_path / "joined", keys_folder / "elsewhere")
        try:
            live_through_a_cut(run, joined, between)
            run.kill(signal.SIGTERM)
            assert run.end() == 143, run.text()[-3000:]
            assert joined.end() == 0, joined.text()
        finally:
            joined.tidy()
    groups = [event["groups"] for event in run.events() if event["kind"] == "tick"][-1]
    held = sum(groups[state] for state in ("in_flight", "ready", "delivered", "trained", "committed"))
    assert groups["issued"] == held + sum(groups["dropped"].values()), groups
    assert between.lost > 0


def live_through_a_cut(run: Run, joined: Joined, between: Wire) -> None:
    run.wait_for_step(2)
    run.wait_for("an update", lambda: synchronised(run))
    assert {event["members"] for event in run.events() if event["kind"] == "weight_sync"} == {1}
    between.cut()
    replay = run.folder / "logs" / "replay.log"
    run.wait_for("the heartbeat timeout", lambda: "was not heard of" in replay.read_text())
    before, step = synchronised(run), run.steps
    time.sleep(TIMEOUT)  # nothing is waited for: it stays cut for a while
    between.heal()
    run.wait_for_step(step + 10)
    assert synchronised(run) > before, joined.text()
    assert joined.process.poll() is None, "it ended over it"
    assert not run.happened("restart")
