"""How a command is told to end, and that it ends the same way whoever tells it.

SIGINT is Ctrl-C; SIGTERM comes from `kill`, Kubernetes, Slurm, systemd and machines that are taken away; SIGHUP from a
terminal that was closed. A signal that was ignored when the command started stays ignored: `nohup` and `&` mean it.

    first signal ──▶ KeyboardInterrupt, or within `deferred` a note in `received`
    another one, more than a second later ──▶ the process ends at once
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn

#: Exit status of a command that Ctrl-C ended; typer gives it to every KeyboardInterrupt.
INTERRUPTED = 128 + signal.SIGINT
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: `timeout`, a closing terminal and process managers signal a process and then its group: that is one request (s).
REPEAT_SECONDS = 1.0
#: How long the listener waits for a signal before it looks whether it is still needed (s).
POLL_SECONDS = 0.1
_SHOW_CURSOR = b"\x1b[?25h\n"


class Interrupts:
    """Signals that ask this process to end. Use as a context manager, in the main thread.

    Attributes:
        received: number of the first signal that was received, or None.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._at = 0.0
        self._before: dict[signal.Signals, Any] = {}
        self._deferred = False

    @property
    def exit_code(self) -> int:
        """Exit status of a command that was interrupted: 128 and the signal's number, as shells have it."""
        return INTERRUPTED if self.received is None else 128 + self.received

    def __enter__(self) -> Interrupts:
        self._before = {n: signal.getsignal(n) for n in SIGNALS if signal.getsignal(n) is not signal.SIG_IGN}
        self.take_back()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def take_back(self) -> None:
        """Handle the signals again after a library has put its own handlers in their place."""
        for number in self._before:
            signal.signal(number, self._handle)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Only note the signals in `received`, also while the main thread is in native code that never returns.

        A thread listens for them. They are blocked everywhere else, and in the processes that are started meanwhile:
        who signals a whole process group, or a whole container, reaches this process alone, which ends the others.
        """
        done = threading.Event()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, self._before)
        self._deferred = True
        listener = threading.Thread(target=self._listen, args=(done,), name="interrupts", daemon=True)
        listener.start()
        try:
            yield
        finally:
            done.set()
            listener.join()
            self._deferred = False
            self.take_back()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _listen(self, done: threading.Event) -> None:
        while not done.is_set():
            if found := signal.sigtimedwait(self._before, POLL_SECONDS):
                self._receive(found.si_signo)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self._receive(number) and not self._deferred:
            raise KeyboardInterrupt

    def _receive(self, number: int) -> bool:
        """Whether this is the first signal. Another one ends the process, unless it belongs to the first."""
        now = time.monotonic()
        if self.received is None:
            self.received, self._at = number, now
            return True
        if number != signal.SIGHUP and now - self._at > REPEAT_SECONDS:
            self._end_at_once()
        return False

    def _end_at_once(self) -> NoReturn:
        with contextlib.suppress(OSError, ValueError):
            if sys.stdout is not None and sys.stdout.isatty():  # a live page hides the cursor
                os.write(sys.stdout.fileno(), _SHOW_CURSOR)
        os._exit(self.exit_code)
