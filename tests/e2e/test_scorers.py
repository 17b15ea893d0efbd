"""A run with two scorers, of which one is killed: nobody notices but the record of the run."""

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgpack
import pytest

from actors.config.loading import load
from actors.config.model import TinyModel
from actors.control.whereabouts import whereabouts
from actors.models import prepare
from actors.replay.journal import place_of
from actors.replay.rows import Rows
from actors.roles.scorer.files import FOLDER
from actors.roles.scorer.model import ServedModel
from actors.tasks import Task
from actors.transport import keys
from learner import LearnerConfig, RewardModel
from tests.e2e.conftest import ENDLESS, ROOT, Run
from tests.e2e.test_preferences import digits_over_letters
from tests.e2e.test_run import ends_when_asked, usable

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

PORT = 39620
#: A run that goes on until it is told to end, and keeps every verdict.
GOING_ON = {
    "steps": ENDLESS,
    "cold_start": "null",
    "evaluation.every_steps": "0",
    "evaluation.samples": "1",
    "checkpoint_every_steps": "0",
    "replay.journal.keep": "all",
}


def got(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as reply:
        return str(reply.read().decode())


def reports(run: Run, role: str) -> dict[str, dict[str, Any]]:
    """What the processes of a role say of themselves, by name."""
    found = whereabouts(run.folder) if any(run.output.glob("*")) else None
    if found is None:
        return {}
    members = json.loads(got(f"{found.url.rstrip('/')}/status"))["members"]
    return {name: member["report"] for name, member in members.items() if member["role"] == role}


def scored(run: Run) -> dict[str, int]:
    """Batches that each scorer has scored, by its name."""
    return {name: report["progress"] for name, report in reports(run, "scorer").items()}


def exported(run: Run, role: str) -> str:
    """What Prometheus would see of one process."""
    found = run.wait_for(f"a {role} on the list", lambda: reports(run, role))
    return got(f"http://{next(iter(found.values()))['metrics']}/metrics")


def wait_for_both(run: Run) -> dict[str, int]:
    """What two scorers have scored, once each has scored something."""

    def work() -> dict[str, int]:
        found = scored(run)
        return found if len(found) == 2 and all(found.values()) else {}

    found: dict[str, int] = run.wait_for("work of both scorers", work)
    return found


def outlives_a_scorer(run: Run) -> int:
    """Kill one of two scorers of a run, see another one work in its place, and end the run; how far it was before."""
    before, processes = wait_for_both(run), run.processes()
    run.named("ray::Scorer").kill()
    for kind in ("restart", "recovered"):
        run.wait_for(f"{kind}: scorer", partial(run.happened, kind, role="scorer"))
    assert len(wait_for_both(run).keys() & before.keys()) == 1, "one is another"
    return ends_when_asked(run, processes)


def test_a_scorer_that_is_killed_costs_no_verdict(start: Callable[..., Run], tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    digits_over_letters(pairs, 160)
    run = start(
        seconds=540.0,
        **{
            **GOING_ON,
            "learner.objective.name": "grpo",
            "preferences.pairs": str(pairs),
            "preferences.held_out": "16",
            "preferences.supervised.max_steps": "10",
            "scorers.count": "2",
            "scorers.cpus": "0.5",
        },
    )
    run.wait_for_step(2)
    wait_for_both(run)
    assert 'leeway_scorer_answers_total{status="scored"}' in exported(run, "scorer")
    assert 'leeway_scorer_request_seconds_bucket{le="1.0",status="scored"}' in exported(run, "verifier")
    reached = outlives_a_scorer(run)
    groups = usable(run)["groups"]
    assert groups["dropped"].get("infra_error", 0) == 0
    assert all("reward/preference" in e["statistics"] for e in run.events() if e["kind"] == "step")
    assert check_verdicts(run.folder) >= 4 * (reached + 2)


def check_verdicts(folder: Path, trained: Path | None = None) -> int:
    """Whether every verdict on record has the score that the reward model gives; how many groups there are."""
    model = ServedModel(load(folder / "recipe.yaml"), trained or folder / FOLDER)
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


@contextmanager
def joining(run: Run, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A scorer that joins a run from elsewhere, on its machine; it is ended with the test."""
    command = ["up", f"{run.folder}/recipe.yaml", "--role", "scorer", "--join", f"tcp://127.0.0.1:{PORT}"]
    with (folder.parent / f"{folder.name}.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "actors.cli", *command, "--folder", str(folder)],
            cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(10)


def test_scorers_join_from_elsewhere_with_keys_and_leave_again(
    start: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys.create(tmp_path / "keys")
    monkeypatch.setenv(keys.FOLDER, str(tmp_path / "keys"))
    base, trained = prepare(TinyModel(kind="tiny"), tmp_path / "models", 0), tmp_path / "reward"
    RewardModel(LearnerConfig(dtype="float32", device="cpu"), base, 0).export(trained)
    run = start(
        seconds=540.0,
        **{
            "generators.engine": "synthetic",
            **GOING_ON,
            "learner.objective.name": "grpo",
            "preferences.reward_model": str(trained),
            "scorers.count": "0",
            "network.joining": "[scorer]",
            "network.curve": "required",
            "network.ports.replay": str(PORT),
        },
    )
    run.wait_for("a verifier that waits", lambda: reports(run, "verifier"))
    assert not any(event["kind"] == "step" for event in run.events()), "nobody scores yet"
    for number in (1, 2):  # while nobody is there in between, the verifiers wait
        with joining(run, tmp_path / f"scorer-{number}") as scorer:
            run.wait_for_step(run.steps + 2)
            scorer.send_signal(signal.SIGTERM)
            assert scorer.wait(120) == 0, (tmp_path / f"scorer-{number}.log").read_text()
    run.kill(signal.SIGINT)
    assert run.end() == 130, run.text()[-3000:]
    assert usable(run)["groups"]["dropped"].get("infra_error", 0) == 0
    assert check_verdicts(run.folder, trained) >= 4 * 4
