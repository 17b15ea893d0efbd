"""What every process of a run does first."""

import logging
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors import process

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for handler in [h for h in root.handlers if h not in handlers]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)


def test_a_process_logs_to_the_run_folder(tmp_path: Path) -> None:
    process.log_to(tmp_path, "generator-1")
    logging.getLogger("anything").warning("a line")
    assert "a line" in (tmp_path / "logs" / "generator-1.log").read_text()


def test_what_ends_a_process_is_in_its_log(tmp_path: Path) -> None:
    @process.logged
    def work() -> None:
        raise ValueError("boom")

    process.log_to(tmp_path, "generator-1")
    with pytest.raises(ValueError, match="boom"):
        work()
    assert "ValueError: boom" in (tmp_path / "logs" / "generator-1.log").read_text()


_OUTLIVING = """
import os, signal, subprocess, sys
from actors import process

signal.pthread_sigmask(signal.SIG_BLOCK, process.SIGNALS)  # as the driver has it for all that it starts
process.outlive_signals(lambda: None)
process.take_signals()
child = subprocess.Popen(["sleep", "60"])
for number in process.SIGNALS:
    os.kill(os.getpid(), number)
child.terminate()
print(child.wait(30))
"""


def test_a_process_of_a_run_outlives_signals_and_its_children_do_not() -> None:
    ended = subprocess.run([sys.executable, "-c", _OUTLIVING], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout) == (0, f"{-signal.SIGTERM}\n")


def test_what_a_peer_can_cause_without_an_end_is_logged_seldom(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    seldom = process.Seldom(logging.getLogger("seldom"), 10, lambda: now[0])
    for moment in range(25):
        now[0] = float(moment)
        seldom.warning("refused %s", f"peer {moment}")
    found = [record.getMessage() for record in caplog.records]
    assert found == ["refused peer 0", *(f"refused peer {n}0 (and 9 more like it since)" for n in (1, 2))]
