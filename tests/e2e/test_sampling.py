"""A sampling run whose replay dies: every completion is there once, and what is curated is worth learning from."""

import json
from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from actors.config.loading import load
from actors.roles.learner.sampling import model_hash
from actors.tasks import TaskStream, file_traces
from tests.e2e.conftest import Run

pytestmark = pytest.mark.e2e

TASKS, SAMPLES = 100, 4
SAMPLING = {
    "steps": "0",
    "cold_start": "null",
    # its engine takes its time, and right answers come by chance
    "generators.engine": "synthetic",
    "generators.synthetic": "{tokens_per_second: 20, mean_tokens: 12, sigma: 0.5, pass_rate: 0.5}",
    "sample": f"{{tasks: {TASKS}, samples: {SAMPLES}, max_per_task: 2, require_format: false}}",
}


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def test_no_completion_is_lost_or_there_twice_where_the_replay_dies(start: Callable[..., Run]) -> None:
    run = start(**SAMPLING)

    def whole_rows() -> int:
        files = list(run.output.glob("*/samples-drawn.jsonl"))
        return files[0].read_bytes().count(b"\n") if files else 0

    run.wait_for("the first completions", lambda: whole_rows() >= 10 * SAMPLES)
    run.named("ray::ReplayRole").kill()
    before = whole_rows()
    assert before < TASKS * SAMPLES, "it was over before the replay could be killed"
    assert run.end() == 0, run.text()[-3000:]
    drawn = rows(run.folder / "samples-drawn.jsonl")
    counts = Counter((row["number"], row["sample"]) for row in drawn)
    assert counts == {(task, sample): 1 for task in range(TASKS) for sample in range(SAMPLES)}
    assert {row["model"] for row in drawn} == {model_hash(run.folder / "model")}
    events = {event["kind"]: event for event in run.events()}
    assert events["restart"]["role"] == "replay"
    assert (events["evaluation"]["name"], events["evaluation"]["n"]) == ("sample", TASKS)
    curated, told = rows(run.folder / "curated.jsonl"), events["curation"]
    assert told["sampled"] == TASKS * SAMPLES == told["kept"] + sum(told["dropped"].values())
    assert len(curated) == told["kept"] > 0
    assert all(row["parts"]["accuracy"] == 1.0 for row in curated)
    recipe = load(run.folder / "recipe.yaml")
    stream = TaskStream(recipe.tasks, recipe.seed)
    assert len(list(islice(file_traces(run.folder / "curated.jsonl", stream), 10_000))) == len(curated)
    assert json.loads((run.folder / "summary.json").read_text())["sampling"]["kept"] == told["kept"]
    assert "completions kept" in run.text()
