"""A small synthetic fleet under faults, by the command itself."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT

pytestmark = pytest.mark.e2e


def test_every_law_holds_after_faults(tmp_path: Path) -> None:
    command = ["-m", "actors.cli", "chaos", "--minutes", "0.4", "--generators", "100", "--output", str(tmp_path)]
    found = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=280, check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert "every law holds" in found.stdout
    assert "generator kill" in found.stdout and "verifier" in found.stdout
    assert found.stderr == ""
