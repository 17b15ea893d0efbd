"""A small synthetic fleet under faults, by the command itself."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT

pytestmark = pytest.mark.e2e


#: Within half a minute each role is killed at least once by it.
SEED = 1680


def test_every_law_holds_after_every_role_was_killed(tmp_path: Path) -> None:
    options = ["--minutes", "0.5", "--seed", str(SEED), "--generators", "60", "--output", str(tmp_path)]
    command = [sys.executable, "-m", "actors.cli", "chaos", *options]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "every law holds" in found.stdout
    for role in ("generator", "verifier", "learner", "replay", "controller"):
        assert f"{role} kill" in found.stdout
    assert found.stderr == ""
