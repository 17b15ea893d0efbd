"""The fork servers of a pool: leased, replaced when they die, and self-tested before any model-written program runs."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator

from sandbox import metrics
from sandbox.config import SandboxConfig
from sandbox.errors import BadReferenceError, DeadlineError, FilesError, IsolationError, PoolClosedError
from sandbox.programs import self_test
from sandbox.programs.fork_server import ProgramForkServer

# How many user ids from `uid_base` on are ours; the default range ends below 65534, the last id of many containers.
_UIDS = 1500


class ForkServerPool:
    """The fork servers of a pool; each is leased by one thread at a time and started when first needed. Thread-safe.

    There are those for programs alone and those for tests as well: what tests need, all others would copy for nothing.
    """

    def __init__(self, config: SandboxConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        # By whether they are for tests.
        self._idle: dict[bool, list[tuple[int, ProgramForkServer]]] = {False: [], True: []}
        self._slots = {tests: set(range(tests, 2 * config.workers, 2)) for tests in (False, True)}
        self._free = threading.Semaphore(config.workers)
        self._leased: set[ProgramForkServer] = set()
        self._self_test_lock = threading.Lock()
        # By whether programs have a directory to write to: the layers differ.
        self._self_tested_at = dict.fromkeys((False, True), -float("inf"))
        self._closed = False

    @contextlib.contextmanager
    def lease(self, deadline: float, *, tests: bool = False) -> Iterator[ProgramForkServer]:
        """A fork server for this thread. One that dies meanwhile is not used again.

        Args:
            deadline: `time.monotonic()` value until which to wait for one to become free.
            tests: one that runs tests.

        Raises:
            DeadlineError: none became free.
            WorkerStartError, IsolationError, PoolClosedError: there is none.
        """
        if not self._free.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise DeadlineError("no fork server became free before the deadline")
        try:
            slot, fork_server = self._take(tests)
        except BaseException:
            self._free.release()
            raise
        healthy = False
        try:
            self.probe(fork_server)
            yield fork_server
            healthy = True
        except (DeadlineError, BadReferenceError, FilesError):
            healthy = True
            raise
        finally:
            self._give_back(slot, fork_server, healthy, tests)
            self._free.release()

    def close(self) -> None:
        """End every fork server, and with it every program."""
        with self._lock:
            self._closed = True
            leased, idle = list(self._leased), [server for kind in self._idle.values() for _, server in kind]
            for kind in self._idle.values():
                kind.clear()
        for fork_server in leased:
            fork_server.kill()
        for fork_server in idle:
            fork_server.close()

    def _take(self, tests: bool) -> tuple[int, ProgramForkServer]:
        with self._lock:
            if self._closed:
                raise PoolClosedError("the pool was closed")
            idle = self._idle[tests]
            slot, fork_server = idle.pop() if idle else (self._slots[tests].pop(), None)
        try:
            if fork_server is None:
                fork_server = ProgramForkServer(self._config, self._uid(slot), tests=tests)
                metrics.FORK_SERVER_STARTS.inc()
        except BaseException:
            with self._lock:
                self._slots[tests].add(slot)
            raise
        with self._lock:
            self._leased.add(fork_server)
        return slot, fork_server

    def _uid(self, slot: int) -> int:
        """A user for a slot's programs. Limits count by user, so pools of different processes should differ."""
        return self._config.uid_base + (os.getpid() * 37 + slot) % _UIDS

    def _give_back(self, slot: int, fork_server: ProgramForkServer, healthy: bool, tests: bool) -> None:
        with self._lock:
            self._leased.discard(fork_server)
            keep = healthy and not self._closed
            if keep:
                self._idle[tests].append((slot, fork_server))
            else:
                self._slots[tests].add(slot)
        if not keep:
            fork_server.close()

    def probe(self, fork_server: ProgramForkServer) -> None:
        """Run the self-test if it is due; the first caller runs it, the others wait for that.

        Raises:
            IsolationError: something leaked.
        """
        kind = fork_server.directory is not None
        if self._config.unsafe:
            return
        with self._self_test_lock:
            if time.monotonic() - self._self_tested_at[kind] < self._config.self_test_seconds:
                return
            try:
                self_test.check(fork_server, self._config)
            except IsolationError:
                metrics.SELF_TEST_LEAKS.inc()
                raise
            self._self_tested_at[kind] = time.monotonic()
