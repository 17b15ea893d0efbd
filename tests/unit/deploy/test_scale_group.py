"""The script that scales a group by name, with a kubectl that notes what it is asked."""

import json
import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "deploy" / "scale-group.sh"
KUBECTL = """#!/bin/bash
case "$*" in
  *patch*) echo "${@: -1}" > "$NOTED" ;;
  *enableInTree*) echo "$SCALES" ;;
  *groupName*) echo generator verifier learner ;;
  *maxReplicas*) echo 4 ;;
esac
"""


@pytest.fixture
def noted(tmp_path: Path) -> Path:
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(KUBECTL)
    kubectl.chmod(0o755)
    return tmp_path / "noted"


def scale(noted: Path, *arguments: str, scales: str = "false") -> subprocess.CompletedProcess[str]:
    changed = {"PATH": f"{noted.parent}:{os.environ['PATH']}", "NOTED": str(noted), "SCALES": scales}
    return subprocess.run([SCRIPT, *arguments], capture_output=True, text=True, env=os.environ | changed, timeout=60)


def test_the_group_is_found_by_its_name_and_tested_before_it_is_changed(noted: Path) -> None:
    assert scale(noted, "verifier", "3").returncode == 0
    assert json.loads(noted.read_text()) == [
        {"op": "test", "path": "/spec/workerGroupSpecs/1/groupName", "value": "verifier"},
        {"op": "replace", "path": "/spec/workerGroupSpecs/1/minReplicas", "value": 0},
        {"op": "replace", "path": "/spec/workerGroupSpecs/1/replicas", "value": 3},
    ]


@pytest.mark.parametrize(
    ("arguments", "scales", "said"),
    [
        (["generators", "3"], "false", "no group generators"),
        (["generator", "9"], "false", "maxReplicas"),
        (["generator", "three"], "false", "GROUP COUNT"),
        (["generator", "3"], "true", "leeway scale"),
    ],
)
def test_what_would_go_wrong_is_refused_and_changes_nothing(
    noted: Path, arguments: list[str], scales: str, said: str
) -> None:
    done = scale(noted, *arguments, scales=scales)
    assert (done.returncode, said in done.stderr, noted.exists()) == (2, True, False)
