"""What a run stands on, without Ray."""

import os
import subprocess
from pathlib import Path

import pytest

from actors.config.loading import load
from actors.control import environment
from actors.control.cluster import guarded, require_gpus
from actors.errors import RunError

QUICKSTART = Path(__file__).parents[4] / "recipes" / "quickstart.yaml"


def test_what_a_guarded_process_starts_ends_with_it_and_its_environment_is_as_before() -> None:
    before = dict(os.environ)
    with guarded(environment.describe(None)) as guard, subprocess.Popen(["sleep", "100"]) as child:
        assert os.environ["TMPDIR"] == str(guard.folder)
        assert "RAY_ADDRESS" not in os.environ
        guard.end_processes()
        assert child.wait(30) < 0
    assert not guard.folder.exists()
    assert dict(os.environ) == before


def test_gpus_that_are_not_there_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load(QUICKSTART, ["generators.gpus=1", "generators.count=2", "learner.gpus=1"])
    require_gpus(recipe, 3.0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(RunError, match=r"ask for 3 GPUs .* offers 1 .*CUDA_VISIBLE_DEVICES is ''"):
        require_gpus(recipe, 1.0)
