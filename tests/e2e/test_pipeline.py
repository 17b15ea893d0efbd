"""A pipeline whose driver is killed in its second stage, and goes on."""

import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from actors.deadline import until
from learner.extra import checkpoints
from tests.e2e.conftest import Run, events_of, starting, suspend
from tests.e2e.test_run import Start, nothing_left

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

STEPS = 3
#: A machine that has much else to do takes long; a quiet one takes half a minute for each of the three.
SECONDS = 400.0


#: What stages have in common whose results depend on their recipe alone.
COMMON: dict[str, Any] = {
    "model": {"kind": "tiny", "hidden_size": 64, "heads": 2, "layers": 1, "intermediate_size": 64},
    "tasks": {
        "sources": [{"source": "addition", "digits": 2}],
        "template": "raw",
        "held_out": 8,
        "max_prompt_tokens": 16,
    },
    "rewards": {"format": "r1_zero", "weights": {"format": 0.1}},
    "generators": {"engine": "transformers", "dtype": "float32", "sampling": {"max_tokens": 24}},
    "replay": {"max_staleness": 0, "groups_per_batch": 2, "group_size": 4, "drop_zero_variance": False},
    "learner": {"dtype": "float32", "device": "cpu", "threads": 1},
    "evaluation": {"samples": 2},
    "checkpoint_every_steps": 1,
}


def write(folder: Path) -> Path:
    cold = {"traces": "addition", "examples": 500, "supervised": {"max_steps": 5}}
    stages = [
        {"name": "cold", "kind": "sft", "recipe": {"cold_start": cold}},
        {"name": "rl", "kind": "rl", "model": "cold", "recipe": {"steps": STEPS}},
    ]
    path = folder / "two.yaml"
    path.write_text(yaml.safe_dump({"name": "two", "output": str(folder), "common": COMMON, "stages": stages}))
    return path


def steps(folder: Path) -> list[int]:
    return [event["step"] for event in events_of(folder / "metrics.jsonl") if event["kind"] == "step"]


def suspend_once_trained(run: Run, folder: Path) -> None:
    """Suspend the learner of a stage between its first step and its last, without which the stage does not end.

    The record of the run would be too late on a quick machine; the disk tells at once.
    """
    run.wait_for("the second stage", (folder / "logs" / "learner.log").exists)
    learner = run.named("ray::Learner")
    saved = folder / "checkpoints"
    assert until(lambda: max(checkpoints(saved), default=0) > 0, SECONDS, interval=0.001), run.text()[-3000:]
    suspend(learner)
    assert max(checkpoints(saved)) < STEPS, "it was over before it could be suspended"


def table(folder: Path) -> list[dict[str, Any]]:
    """What the stages have come to, without what it took."""
    found = json.loads((folder / "pipeline-summary.json").read_text())["stages"]
    return [{k: v for k, v in row.items() if k not in ("minutes", "tokens")} for row in found]


def ended(run: Run) -> str:
    assert run.end() == 0, run.text()[-3000:]
    return run.text()


@dataclass(frozen=True)
class Resumed:
    """A pipeline whose driver was killed in the second stage, and that was then resumed and is over.

    Attributes:
        path: of its recipe.
        folder: of the pipeline.
        said: what the resumed run printed.
        cold: the metrics of the first stage, as they were before that.
    """

    path: Path
    folder: Path
    said: str
    cold: bytes


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Resumed]:
    place = tmp_path_factory.mktemp("pipeline")
    path, folder = write(place), place / "two"
    with starting(place) as start:
        killed = start([str(path)], SECONDS)
        suspend_once_trained(killed, folder / "02-rl")
        processes = killed.processes()
        assert processes
        killed.kill(signal.SIGKILL)
        assert nothing_left(processes)
        cold = (folder / "01-cold" / "metrics.jsonl").read_bytes()
        yield Resumed(path, folder, ended(start(["--resume", str(folder)], SECONDS)), cold)


def test_a_pipeline_goes_on_where_its_driver_was_killed(resumed: Resumed) -> None:
    folder = resumed.folder
    assert "resumes at step" in resumed.said and "stage 1 of 2" not in resumed.said
    assert (folder / "01-cold" / "metrics.jsonl").read_bytes() == resumed.cold, "the first stage ran again"
    assert sorted(set(steps(folder / "02-rl"))) == list(range(1, STEPS + 1))
    assert [row["outcome"] for row in table(folder)] == ["finished", "finished"]
    assert "02-rl/report.html" in (folder / "report.html").read_text()


def test_it_comes_to_the_same_as_one_whose_second_stage_nobody_killed(
    resumed: Resumed, start: Start, tmp_path: Path
) -> None:
    folder = resumed.folder
    before, weights = table(folder), (folder / "02-rl" / "model" / "model.safetensors").read_bytes()
    (folder / "02-rl").rename(tmp_path / "resumed")
    said = ended(start([str(resumed.path)], SECONDS))
    assert "stage 1 of 2" not in said and "resumes" not in said
    assert table(folder) == before
    assert (folder / "02-rl" / "model" / "model.safetensors").read_bytes() == weights
