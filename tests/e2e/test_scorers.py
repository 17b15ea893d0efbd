"""A run with two scorers, of which one is killed: nobody notices but the record of the run."""

import json
import signal
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest

from actors.config.loading import load
from actors.control.whereabouts import whereabouts
from actors.replay.journal import place_of
from actors.replay.rows import Rows
from actors.roles.scorer.files import FOLDER
from actors.roles.scorer.model import ServedModel
from actors.tasks import Task
from tests.e2e.conftest import Run
from tests.e2e.test_preferences import digits_over_letters
from tests.e2e.test_run import nothing_left, usable

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def got(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as reply:
        return str(reply.read().decode())


def reports(run: Run, role: str) -> dict[str, dict[str, Any]]:
    """What the processes of a role say of themselves, by name."""
    found = whereabouts(run.folder)
    if found is None:
        return {}
    members = json.loads(got(f"{found.url.rstrip('/')}/status"))["members"]
    return {name: member["report"] for name, member in members.items() if member["role"] == role}


def scored(run: Run) -> dict[str, int]:
    """Batches that each scorer has scored, by its name."""
    return {name: report["progress"] for name, report in reports(run, "scorer").items()}


def exported(run: Run, role: str) -> str:
    """What Prometheus would see of one process."""
    return got(f"http://{next(iter(reports(run, role).values()))['metrics']}/metrics")


def test_a_scorer_that_is_killed_costs_no_verdict(start: Callable[..., Run], tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    digits_over_letters(pairs, 160)
    run = start(
        steps="100000",
        seconds=540.0,
        **{
            "cold_start": "null",
            "evaluation.every_steps": "0",
            "evaluation.samples": "1",
            "checkpoint_every_steps": "0",
            "replay.journal.keep": "all",
            "preferences.pairs": str(pairs),
            "preferences.held_out": "16",
            "preferences.supervised.max_steps": "10",
            "scorers.count": "2",
            "scorers.cpus": "0.5",
        },
    )
    run.wait_for_step(2)
    before = run.wait_for("work of both scorers", lambda: (s := scored(run)) and len(s) == 2 and all(s.values()) and s)
    processes = run.processes()
    assert 'leeway_scorer_answers_total{status="scored"}' in exported(run, "scorer")
    assert 'leeway_scorer_request_seconds_bucket{le="1.0",status="scored"}' in exported(run, "verifier")
    run.named("ray::Scorer").kill()
    run.wait_for("a restart", lambda: any(e["kind"] == "restart" and e["role"] == "scorer" for e in run.events()))
    run.wait_for("a recovery", lambda: any(e["kind"] == "recovered" and e["role"] == "scorer" for e in run.events()))
    after = run.wait_for("work of the new one", lambda: (s := scored(run)) and len(s) == 2 and all(s.values()) and s)
    assert len(after.keys() & before.keys()) == 1, "one is another"
    reached = max(e["step"] for e in run.events() if e["kind"] == "step")
    run.wait_for_step(reached + 2)
    processes += run.processes()
    run.kill(signal.SIGINT)
    assert run.end() == 130, run.text()[-3000:]
    assert nothing_left(processes)
    groups = usable(run)["groups"]
    assert groups["dropped"].get("infra_error", 0) == 0
    assert all("reward/preference" in e["statistics"] for e in run.events() if e["kind"] == "step")
    assert check_verdicts(run.folder) >= 4 * (reached + 2)


def check_verdicts(folder: Path) -> int:
    """Whether every verdict on record has the score that the run's reward model gives; how many groups there are."""
    model = ServedModel(load(folder / "recipe.yaml"), folder / FOLDER)
    rows = Rows(place_of(folder, 0), "FULL")
    checked = 0
    try:
        for key, data in list(rows.rows("scores")):
            group, scores = rows.get("groups", key), msgpack.unpackb(data, strict_map_key=False)
            if key < 0 or group is None:
                continue
            prompt, texts, _ = msgpack.unpackb(group, strict_map_key=False)
            (right,) = model.score([model.encode(Task("", (("user", prompt),), "", {}), texts)])
            assert [s["parts"]["preference"] for s in scores] == pytest.approx(right.tolist(), abs=1e-4)
            assert "infra_error" not in {s["status"] for s in scores}
            checked += 1
    finally:
        rows.close()
    return checked
