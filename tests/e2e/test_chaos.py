"""A small synthetic fleet under faults, by the command itself."""

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from actors.deadline import until
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


def test_a_real_run_ends_with_the_chaos_that_is_killed(tmp_path: Path) -> None:
    options = ["--real", str(ROOT / "recipes" / "quickstart.yaml"), "--minutes", "5", "--output", str(tmp_path)]
    command = [sys.executable, "-m", "actors.cli", "chaos", *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as chaos:
        try:
            assert until(lambda: bool(running(tmp_path)), 60)
            assert until(lambda: any(tmp_path.glob("*/recipe.yaml")), 60), (tmp_path / "output.log").read_text()
        finally:
            chaos.kill()
    try:
        assert until(lambda: not running(tmp_path), 60)
    finally:
        for left in running(tmp_path):
            left.kill()


def running(output: Path) -> list[psutil.Process]:
    """The processes of `leeway run` with this folder for its output."""
    found = []
    for one in psutil.process_iter():
        with suppress(psutil.Error):
            if f"-soutput={output}" in one.cmdline() and one.status() != psutil.STATUS_ZOMBIE:
                found.append(one)
    return found
