"""What a command does with the signals that ask it to end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from actors.deadline import until
from sandbox.interrupts import SIGNALS, Interrupts

ROOT = Path(__file__).parents[3]
_COMMAND = """
import signal, subprocess, sys, time
from sandbox.interrupts import Interrupts

with Interrupts() as interrupts, interrupts.deferred():
    print("ready", flush=True)
    while interrupts.received is None:
        time.sleep(0.01)
    print(interrupts.received, flush=True)
    sys.stdin.readline()  # a wait in native code
"""


@pytest.mark.parametrize("number", SIGNALS)
def test_every_signal_is_an_interrupt_with_its_own_exit_code(number: signal.Signals) -> None:
    before = [signal.getsignal(each) for each in SIGNALS]
    with Interrupts() as interrupts, pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)
    assert interrupts.exit_code == 128 + number
    assert [signal.getsignal(each) for each in SIGNALS] == before


def test_what_was_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts, interrupts.deferred():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert interrupts.received is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_signals_that_come_together_are_one_request() -> None:
    with Interrupts() as interrupts:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
    assert interrupts.received == signal.SIGTERM


def test_a_library_may_put_its_own_handler_in_their_place() -> None:
    with Interrupts() as interrupts:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        interrupts.take_back()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)


def test_children_of_a_deferring_process_are_not_reached() -> None:
    with Interrupts() as interrupts, interrupts.deferred(), subprocess.Popen(["sleep", "60"]) as child:
        child.send_signal(signal.SIGTERM)
        blocked = Path(f"/proc/{child.pid}/status").read_text().partition("SigBlk:")[2].split()[0]
        assert all(int(blocked, 16) >> (number - 1) & 1 for number in SIGNALS)
        assert child.poll() is None
        child.kill()
    assert interrupts.received is None


def test_a_second_signal_ends_a_process_that_hangs_at_once() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _COMMAND],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == f"{int(signal.SIGTERM)}\n"

        def ended() -> bool:  # by one of them that is no longer taken for a part of the first
            process.send_signal(signal.SIGINT)
            return process.poll() is not None

        assert until(ended, 30, 0.05)
        assert process.returncode == 143
        assert process.stderr.read() == ""
