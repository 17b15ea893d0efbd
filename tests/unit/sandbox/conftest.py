"""A fork server that tests share, and what a program prints in a child of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sandbox import SandboxConfig
from sandbox.programs.fork_server import ProgramForkServer
from sandbox.programs.run import Run


@pytest.fixture(scope="session")
def uid() -> int:
    """A user of this process of tests alone: limits count by user. Below those of pools and of grader workers."""
    return 63_000 + os.getpid() % 900


@pytest.fixture(scope="module")
def fork_server(uid: int) -> Iterator[ProgramForkServer]:
    made = ProgramForkServer(SandboxConfig(test_seconds=60.0), uid)
    yield made
    made.close()


@pytest.fixture(scope="module")
def output_of(fork_server: ProgramForkServer) -> Callable[[str], str]:
    """Everything that a program writes."""

    def run_program(source: str) -> str:
        job: dict[str, Any] = {"kind": "stdio", "source": source}
        with Run(fork_server, job, SandboxConfig(), b"", 60.0, True) as run:
            run.wait()
        return (run.output(run.stdout_fd) + run.output(run.stderr_fd)).decode()

    return run_program
