"""A learner that dies beside a damaged newest checkpoint: the next one takes an older one, or says what to do."""

import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from learner.extra import checkpoints
from tests.e2e.conftest import ENDLESS, SMALL, Run, suspend
from tests.e2e.test_monitoring import status
from tests.e2e.test_run import usable

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

LEARNER = "ray::Learner"


def damage(checkpoint: Path) -> None:
    """Change a byte of a shard, whose name and size stay."""
    shard = checkpoint / "__0_0.distcp"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)


def committed(run: Run) -> int:
    """The step up to which the replay has given up its batches, as the controller has last heard."""
    return int(status(run)["replay"]["groups"]["committed"]) // int(SMALL["replay.groups_per_batch"])


def suspended_once_committed(run: Run) -> tuple[psutil.Process, Path]:
    """The learner, suspended while the replay knows of its newest checkpoint, and that checkpoint."""

    def suspended() -> tuple[psutil.Process, Path] | None:
        learner = run.named(LEARNER)
        suspend(learner)
        newest = [*checkpoints(run.folder / "checkpoints").values()][-1]
        heard = time.monotonic() + 2.0  # of what the learner said last; less than its membership lasts
        while time.monotonic() < heard:
            if committed(run) == int(newest.name[5:]):
                return learner, newest
            time.sleep(0.1)
        learner.send_signal(signal.SIGCONT)  # it had not told yet
        return None

    found: tuple[psutil.Process, Path] = run.wait_for("a checkpoint that the replay knows of", suspended)
    return found


def test_a_damaged_newest_checkpoint_costs_nothing_or_is_named_with_what_to_do(start: Callable[..., Run]) -> None:
    run = start(steps=ENDLESS, seconds=540.0, **{"evaluation.every_steps": "0", "evaluation.samples": "1"})
    run.wait_for_step(2)
    place = run.folder / "checkpoints"
    run.wait_for("a checkpoint", lambda: len(checkpoints(place)) > 1)

    # One that the replay never heard of, as of a learner that died before it could tell.
    learner = run.named(LEARNER)
    suspend(learner)
    newest = [*checkpoints(place).values()][-1]
    shutil.copytree(newest, place / "step-999998")
    damage(place / "step-999998")
    learner.kill()
    said = run.wait_for("the learner goes on", lambda: [e for e in run.events() if e.get("name") == "resuming"])
    assert "step-999998 is damaged (__0_0.distcp holds other bytes than were written)" in said[0]["detail"]
    assert f"goes on from step {int(newest.name[5:])}" in said[0]["detail"]
    run.wait_for_step(int(newest.name[5:]) + 3)

    # The newest one, of which the replay knows, whose batches are gone.
    learner, newest = suspended_once_committed(run)
    damage(newest)
    learner.kill()
    assert run.end() == 1
    last = run.text().strip().splitlines()[-1]
    print(last)
    assert f"{newest.name} (__0_0.distcp holds other bytes than were written) is damaged" in run.text()
    assert f"leeway run --resume {run.folder}" in " ".join(run.text().split())

    steps = run.steps
    again = start(["--resume", str(run.folder), f"-ssteps={steps + 2}"], seconds=540.0)
    assert again.end() == 0, again.text()
    assert f"{newest.name} is damaged" in " ".join(again.text().split())
    assert usable(run)["steps"] == steps + 2
