"""Runs model-written programs within the deadline of one check."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sandbox.config import SandboxConfig
from sandbox.errors import DeadlineError, FilesError, WorkerDiedError
from sandbox.programs.files import fetched, laid_out, relative
from sandbox.programs.fork_server import ProgramForkServer
from sandbox.programs.fork_server_pool import ForkServerPool
from sandbox.programs.outcome import Outcome, outcome_of
from sandbox.programs.run import Run

ATTEMPTS = 3
NO_SCRATCH = (
    "programs cannot write files here: a directory of limited size needs a mount namespace, that is, root with "
    "CAP_SYS_ADMIN or unprivileged user namespaces"
)


class ProgramRunner:
    """What a verifier of programs gets: runs, within the deadline of its check.

    Args:
        fork_servers: where to run.
        config: limits.
        deadline: `time.monotonic()` value after which nothing counts any more.
    """

    def __init__(self, fork_servers: ForkServerPool, config: SandboxConfig, deadline: float) -> None:
        self._fork_servers = fork_servers
        self.config = config
        self._deadline = deadline

    def run(
        self, job: dict[str, Any], stdin: bytes = b"", *, streams: bool = False, seconds: float | None = None
    ) -> Outcome:
        """Run one job to its end.

        Args:
            job: see `sandbox.jail.harness`.
            stdin: what the program reads.
            streams: keep stdout and stderr.
            seconds: wall-clock limit of this run, at most (and by default) `config.test_seconds`.

        Raises:
            DeadlineError: the deadline of the check passed; not the program's fault.
            WorkerDiedError: it was killed from outside, repeatedly.
            WorkerStartError, IsolationError, PoolClosedError: nothing can be run.
        """
        if self.config.scratch_bytes > 0:
            return self.run_with_files(job, stdin, {}, (), streams=streams, seconds=seconds)[0]
        died: WorkerDiedError | None = None
        for _ in range(ATTEMPTS):
            try:
                with self._fork_servers.lease(self._deadline) as fork_server:
                    limit, ours = self.limit(seconds)
                    with Run(fork_server, job, self.config, stdin, limit, streams) as run:
                        usage = run.wait()
                        if run.killed == "deadline" and ours:
                            raise DeadlineError("the deadline passed while a program ran")
                        return outcome_of(run, usage, limit)
            except WorkerDiedError as error:
                died = error
        assert died is not None
        raise died

    def run_with_files(
        self,
        job: dict[str, Any],
        stdin: bytes,
        files: Mapping[str, bytes],
        fetch: Sequence[str],
        *,
        streams: bool = True,
        seconds: float | None = None,
    ) -> tuple[Outcome, dict[str, bytes]]:
        """Run one job in a directory of its own with `files`, and give back those of `fetch` that it leaves.

        A fork server is started for it and ended with it, so nothing of the directory outlives it.

        Args:
            job, stdin, streams, seconds: as for `run`.
            files: contents by path.
            fetch: paths, relative to the directory.

        Raises:
            FilesError: a path or size is not allowed, or files are to be fetched where programs cannot write any.
            DeadlineError, WorkerDiedError, WorkerStartError, IsolationError, PoolClosedError: as `run`.
        """
        size = max(self.config.scratch_bytes, self.config.files_bytes)
        for name in fetch:
            relative(name)
        with self._own_fork_server(files, size) as fork_server:
            if fetch and fork_server.directory is None:
                raise FilesError(NO_SCRATCH)
            if files and not (fork_server.layers["landlock"] or self.config.unsafe):
                raise FilesError("programs can open no files here: this kernel has no Landlock (Linux 5.13)")
            limit, ours = self.limit(seconds)
            with Run(fork_server, job, self.config, stdin, limit, streams) as run:
                usage = run.wait()
                if run.killed == "deadline" and ours:
                    raise DeadlineError("the deadline passed while a program ran")
                outcome = outcome_of(run, usage, limit)
            return outcome, {} if fork_server.directory is None else fetched(fork_server.directory, fetch, size)

    def can_write(self) -> bool:
        """Whether programs can have a directory to write to here.

        Raises:
            DeadlineError, WorkerDiedError, WorkerStartError, IsolationError, PoolClosedError: as `run`.
        """
        with self._own_fork_server({}, self.config.files_bytes) as fork_server:
            return fork_server.directory is not None

    def isolation(self) -> str:
        """The isolation layers in words, once the self-test has passed.

        Raises:
            DeadlineError, WorkerDiedError, WorkerStartError, IsolationError, PoolClosedError: as `run`.
        """
        with self._fork_servers.lease(self._deadline) as fork_server:
            layers = fork_server.layers
        if self.config.unsafe:
            return "none (unsafe: true)"
        own = {"": "", "namespaces": ", namespaces"}.get(layers["own"], ", namespaces, a root of its own")
        user = "" if layers["uid"] is None else ", a user of its own"
        return f"{'Landlock, ' if layers['landlock'] else 'no files at all, '}seccomp, limits{own}{user}"

    @contextlib.contextmanager
    def _own_fork_server(self, files: Mapping[str, bytes], scratch_bytes: int) -> Iterator[ProgramForkServer]:
        """A fork server for one run, whose children start in a directory with `files`."""
        with (
            laid_out(files, self.config.files_bytes) as source,
            self._fork_servers.lease(self._deadline) as leased,
            contextlib.closing(ProgramForkServer(self.config, leased.uid, str(source), scratch_bytes)) as fork_server,
        ):
            self._fork_servers.probe(fork_server)
            yield fork_server

    @contextlib.contextmanager
    def pair(self) -> Iterator[ProgramForkServer]:
        """A fork server for two runs at the same time, of tests and of the program under them.

        Raises:
            DeadlineError, WorkerDiedError, WorkerStartError, IsolationError, PoolClosedError: as `run`.
        """
        with self._fork_servers.lease(self._deadline, tests=True) as fork_server:
            yield fork_server

    def limit(self, seconds: float | None = None) -> tuple[float, bool]:
        """Seconds a run may take, and whether the check's own deadline is what limits it.

        Raises:
            DeadlineError: that deadline has passed.
        """
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise DeadlineError("the deadline passed before all tests had run")
        wanted = min(self.config.test_seconds, seconds or self.config.test_seconds)
        return min(left, wanted), left < wanted
