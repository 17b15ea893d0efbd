"""Errors end a command with 2 where the input is wrong, and with 1 where the machine is at fault."""

from __future__ import annotations

import pytest

from sandbox import errors


@pytest.mark.parametrize("name", ["BadRecordError", "BadReferenceError", "ConfigError", "DuplicateVerifierError",
                                  "FilesError", "UnknownLanguageError", "UnknownVerifierError"])  # fmt: skip
def test_bad_input_is_exit_code_2(name: str) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, errors.SandboxError)
    assert kind("").exit_code == 2


@pytest.mark.parametrize("name", ["DeadlineError", "IsolationError", "PoolClosedError", "WorkerDiedError",
                                  "WorkerStartError", "WorkerTimeoutError"])  # fmt: skip
def test_a_fault_of_the_machine_is_exit_code_1(name: str) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, errors.SandboxError)
    assert kind("").exit_code == 1
