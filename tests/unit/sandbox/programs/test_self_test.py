"""The isolation self-test: passes under all layers, finds a missing one, and stops programs while it fails."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from sandbox import IsolationError, Pool, RewardConfig, SandboxConfig, Status, Submission
from sandbox.programs import self_test
from sandbox.programs.fork_server import ProgramForkServer

CONFIG = SandboxConfig(test_seconds=5.0)


def test_self_test_passes_under_all_layers(fork_server: ProgramForkServer) -> None:
    self_test.check(fork_server, CONFIG)


def test_self_test_finds_missing_layers_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch, uid: int) -> None:
    name = uuid.uuid4().hex
    monkeypatch.setattr(self_test.secrets, "token_hex", lambda *_: name)
    config = SandboxConfig(unsafe=True)
    bare = ProgramForkServer(config, uid)
    try:
        with pytest.raises(IsolationError, match=r"read a planted file.*connect by TCP.*fork.*write to /tmp/"):
            self_test.check(bare, config)
    finally:
        bare.close()
    assert [path for folder in ("/", "/tmp", "/dev/shm") for path in Path(folder).glob(f"*{name}*")] == []


def test_programs_are_refused_while_the_self_test_leaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_test, "_PROGRAM", 'print(\'{"tried": ["x"], "leaked": ["read a planted file"]}\')')
    submission = Submission("stdio", "```python\nprint(1)\n```", {"tests": [{"stdin": "", "stdout": "1"}]})
    with Pool(SandboxConfig(workers=1), RewardConfig()) as pool:
        [verdict] = pool.score([submission], 30)
    assert (verdict.status, verdict.reward) == (Status.INFRA_ERROR, None)
    assert "read a planted file" in verdict.detail
