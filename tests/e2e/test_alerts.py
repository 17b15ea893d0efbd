"""Faults of a fleet make the alerts fire that are meant for them, in a real Prometheus."""

import contextlib
import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from actors.control.whereabouts import whereabouts
from actors.deadline import until
from actors.fleet.fleet import STARTUP_SECONDS, Fleet, running
from actors.fleet.learner import Pace
from actors.fleet.recipe import fleet_recipe
from tests.e2e.conftest import ROOT
from tests.e2e.prometheus import Prometheus

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs Prometheus, such as Debian's"),
]

#: Longest wait for an alert to fire, or to fire no more (s).
SECONDS = 180.0
#: Answers that only the algebra system in a grader worker can compare with a number.
TASKS = [{"prompt": f"{number}+1=", "answer": rf"\sqrt{{{number}}}+x"} for number in range(101, 165)]


def hurried(folder: Path) -> Path:
    """The rules of `deploy/monitoring`, with windows and waits of seconds. Restarts go on being counted for as long."""
    rules = yaml.safe_load((ROOT / "deploy/monitoring/rules.yaml").read_text())
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        if "for" in rule:
            rule["for"] = "1s"
        if rule.get("alert") != "LeewayCrashLoop":
            rule["expr"] = rule["expr"].replace("[15m]", "[15s]")
    path = folder / "rules.yaml"
    path.write_text(yaml.safe_dump(rules))
    return path


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", folder], check=True, timeout=30)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True, timeout=30)


def fires(prometheus: Prometheus, alert: str, fault: Callable[[], object]) -> None:
    """Commit a fault, again and again, until an alert fires that did not before."""
    assert until(lambda: alert not in prometheus.firing(), SECONDS, 0.5), f"{alert} fires without a fault"

    def fired() -> bool:
        fault()
        return alert in prometheus.firing()

    assert until(fired, SECONDS, 0.5), f"{alert} does not fire; these do: {sorted(prometheus.firing())}"


def fires_by_now(prometheus: Prometheus, alert: str) -> None:
    """An alert comes to fire by the fault that another one fired by: neither has to be the first."""
    assert until(lambda: alert in prometheus.firing(), SECONDS, 0.5), f"{alert} does not: {prometheus.firing()}"


def forked() -> list[psutil.Process]:
    """Processes of fleets: children of the server that they are forked from, which is a child of this process."""
    return [process for child in psutil.Process().children() for process in child.children(recursive=True)]


def kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def fill(path: Path) -> None:
    """Leave no room on a disk; whatever room is made meanwhile is taken, too."""
    with contextlib.suppress(OSError), path.open("ab", buffering=0) as file:
        while True:
            file.write(bytes(2**20) if shutil.disk_usage(path.parent).free > 2**20 else bytes(4096))


@pytest.fixture
def fleet(small_disk: Path, tmp_path: Path) -> Iterator[Fleet]:
    """Real controller, replay and verifiers around engines and a learner that only take time, on a small disk."""
    (tmp_path / "tasks.jsonl").write_text("".join(f"{json.dumps(task)}\n" for task in TASKS))
    source = {"source": "jsonl", "path": str(tmp_path / "tasks.jsonl"), "verifier": "math"}
    changes = [("generators.count", 2), ("generators.groups_in_flight", 4), ("verifiers.count", 1)]
    changes += [("tasks.sources", [{"source": "addition", "digits": 3}, source]), ("replay.drop_zero_variance", False)]
    changes += [("replay.groups_per_batch", 4), ("controller.hang_seconds", 600)]
    changes += [
        ("verifiers.deadline_seconds", 30),
        ("replay.verify_lease_seconds", 60),
    ]  # algebra's worker starts slowly
    recipe = fleet_recipe(small_disk, changes)
    with running(recipe, small_disk, tmp_path / "models", Pace()) as started:
        started.wait_for_step(1, STARTUP_SECONDS)
        yield started
    # A fleet that nobody winds down ends all the same: its controller is not replaced, and nobody is left to do it.
    assert "driver" not in [thread.name for thread in threading.enumerate()]
    assert until(lambda: not forked(), SECONDS), forked()


def test_faults_make_their_alerts_fire(
    fleet: Fleet, watch: Callable[..., Prometheus], small_disk: Path, tmp_path: Path
) -> None:
    page = whereabouts(fleet.folder)
    assert page is not None
    prometheus = watch(page.url, hurried(tmp_path))

    def break_sandbox() -> None:
        for verifier in fleet.victims("verifier"):
            kill(psutil.Process(verifier.place.process.pid).children(recursive=True))

    fires(prometheus, "LeewayVerifierInfraErrors", break_sandbox)

    killed: set[str] = set()

    def kill_generators() -> None:  # once they are up: a role of which nobody comes up is given up
        for generator in fleet.victims("generator"):
            if generator.name not in killed:
                killed.add(generator.name)
                generator.kill()

    fires(prometheus, "LeewayCrashLoop", kill_generators)

    full = small_disk / "full"
    fires(prometheus, "LeewayJournalBlocked", lambda: fill(full))
    fires_by_now(prometheus, "LeewayDiskNearlyFull")
    full.unlink()

    (learner,) = fleet.victims("learner")
    fires(prometheus, "LeewayLearnerStuck", lambda: learner.suspend(True))
    fires_by_now(prometheus, "LeewayProcessUnresponsive")
    learner.suspend(False)
