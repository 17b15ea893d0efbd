"""0 forged passes and 0 escapes, as this user and as an unprivileged one; and the same attacks do fool naive judges."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import naive
import pytest
from cases import ATTACKS, Attack
from judging import CONFIG, faults
from world import World, planted

from sandbox import Pool, RewardConfig

# The last of the unprivileged users; each share has one of its own, since limits count by user.
NOBODY = 65534
# What runs in one process, so that each is done in a minute on a slow machine.
SHARES = 8
CONTROLS = [attack for attack in ATTACKS if attack.control]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with planted() as made:
        yield made


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(CONFIG, RewardConfig()) as made:
        yield made


@pytest.mark.parametrize("attack", ATTACKS, ids=[f"{attack.family}: {attack.name}" for attack in ATTACKS])
def test_attack_fails(attack: Attack, pool: Pool, world: World) -> None:
    assert faults(attack, pool, world) == []


@pytest.mark.parametrize("attack", CONTROLS, ids=[attack.name for attack in CONTROLS])
def test_attack_fools_a_naive_judge(attack: Attack, tmp_path: Path) -> None:
    with planted() as world:
        reference = json.loads(world.fill(json.dumps(attack.reference()).replace('"@NUMBER@"', "@NUMBER@")))
        assert naive.JUDGES[attack.kind](world.fill(attack.source), reference, tmp_path)


def _interpreter_for_nobody() -> tuple[str, str] | None:
    """An interpreter that an unprivileged user can start, and the path of the packages to give it."""
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    for python in (sys.executable, "/usr/bin/python3"):
        probe = [python, "-c", "import pydantic, prometheus_client, sandbox"]
        environment = {"PYTHONPATH": f"{_root()}:{packages}"}
        try:
            subprocess.run(
                probe, user=NOBODY, group=NOBODY, env=environment, check=True, capture_output=True, timeout=60
            )
        except (OSError, subprocess.SubprocessError):
            continue
        return python, environment["PYTHONPATH"]
    return None


def _root() -> Path:
    return Path(__file__).resolve().parents[3]


@pytest.mark.skipif(os.geteuid() != 0, reason="the attacks run as this unprivileged user already")
@pytest.mark.parametrize("share", range(SHARES))
def test_attacks_fail_as_an_unprivileged_user(share: int) -> None:
    found = _interpreter_for_nobody()
    if found is None:
        pytest.skip("no interpreter that an unprivileged user can start")
    ended = subprocess.run(
        [found[0], str(Path(__file__).with_name("judging.py")), str(share), str(SHARES)],
        user=NOBODY - share,
        group=NOBODY,
        env={"PYTHONPATH": found[1], "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=270,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    report = json.loads(ended.stdout)
    assert report["attacks"] == len(ATTACKS[share::SHARES])
    assert report["through"] == {}
