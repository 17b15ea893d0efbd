"""On-policy distillation by a real fleet: a student follows its teacher, and a scorer that is killed costs nothing."""

import statistics
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import numpy as np
import pytest

from actors.config.loading import load
from actors.models import prepare
from actors.models.tokenizer import load_tokenizer
from actors.replay.journal import Journal, place_of
from actors.replay.rows import Rows
from actors.tasks import Renderer, TaskStream, addition_traces
from learner import LearnerConfig, SftConfig, Teacher, Trainer, train_sft
from learner.extra import checkpoints
from tests.e2e.conftest import ENDLESS, ROOT, Run
from tests.e2e.test_run import ends_when_asked, usable
from tests.e2e.test_scorers import GOING_ON, exported, outlives_a_scorer, wait_for_both

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

#: Sums of two digits: a student that has seen little of them, and a teacher that has seen more.
STUDENT_STEPS, TEACHER_STEPS = 130, 230
TASKS = {"tasks.sources": "[{source: addition, digits: 2}]", "tasks.held_out": "64", "tasks.development": "16"}


class Models(NamedTuple):
    student: Path
    teacher: Path


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """The same model, earlier and later in one supervised training."""
    folder = tmp_path_factory.mktemp("models")
    recipe = load(ROOT / "recipes" / "quickstart.yaml", [f"{key}={value}" for key, value in TASKS.items()])
    base = prepare(recipe.model, folder, 0)
    renderer = Renderer(recipe.tasks, load_tokenizer(base))
    traces = islice(addition_traces(TaskStream(recipe.tasks, recipe.seed)), 32 * TEACHER_STEPS)
    examples = [
        (np.asarray(renderer.render(task), np.int32), np.asarray(renderer.completion(task, text), np.int32))
        for task, text in traces
    ]
    trainer = Trainer(LearnerConfig(dtype="float32", device="cpu", threads=1), base, seed=0)
    found = Models(folder / "student", folder / "teacher")

    def keep(step: int, _: dict[str, float]) -> None:
        if step == STUDENT_STEPS:
            trainer.export(found.student)

    train_sft(trainer, examples, SftConfig(max_steps=TEACHER_STEPS), on_step=keep)
    trainer.export(found.teacher)
    return found


def settings(models: Models, **changes: str) -> dict[str, str]:
    return {
        **TASKS,
        "model": f"{{kind: folder, path: {models.student}}}",
        "cold_start": "null",
        "distillation.teacher": str(models.teacher),
        "learner.objective.name": "opd",
        "learner.optimizer.learning_rate": "2e-4",
        "learner.optimizer.warmup_steps": "0",
        "learner.optimizer.decay_steps": "0",
        "rewards.weights.accuracy": "0",
        "rewards.weights.format": "0",
        "replay.max_staleness": "1",
        "replay.journal.keep": "all",
        "scorers.cpus": "0.5",
        **changes,
    }


def check_logprobs(folder: Path, models: Models) -> tuple[int, int]:
    """Whether every group on record has what the teacher says of its tokens; how many are trained, and have scores."""
    teacher = Teacher(LearnerConfig(dtype="float32", device="cpu"), models.teacher)
    trained = 0
    for _, groups in Journal.read(folder):
        for _, payload in groups:
            completions = np.split(payload.tokens, np.cumsum(payload.lengths)[:-1])
            (own,) = teacher.logprobs([(payload.prompt, completions)], 1.0)
            assert payload.teacher_logprobs is not None
            np.testing.assert_allclose(payload.teacher_logprobs, np.concatenate(own), atol=1e-3)
            trained += 1
    return trained, check_waiting(folder)


def check_waiting(folder: Path) -> int:
    """Whether what waits with its verdict for a batch has the teacher's logprobs, too; how many groups have one."""
    rows = Rows(place_of(folder, 0), "FULL")
    try:
        keys = [key for key, _ in rows.rows("scores") if key >= 0]
        for key in keys:
            group = rows.get("groups", key)
            assert group is not None
            names: list[Any] = [name for name, _, _ in msgpack.unpackb(group)[2]]
            assert "teacher_logprobs" in names, f"group {key} has its verdict, and the teacher has said nothing"
        return len(keys)
    finally:
        rows.close()


def test_a_student_follows_its_teacher(start: Callable[..., Run], models: Models) -> None:
    run = start(
        seconds=540.0,
        **settings(
            models,
            **{
                "steps": "30",
                "replay.groups_per_batch": "64",
                "generators.groups_in_flight": "64",
                "evaluation.every_steps": "0",
                "checkpoint_every_steps": "30",
            },
        ),
    )
    assert run.end() == 0, run.text()[-3000:]
    steps = [event["statistics"] for event in run.events() if event["kind"] == "step"]
    assert len(steps) == 30
    apart = [step["reverse_kl"] for step in steps]
    right = [step["reward/accuracy"] for step in steps]
    print("reverse KL", [round(each, 3) for each in apart], "accuracy", [round(each, 2) for each in right])
    assert statistics.mean(apart[-5:]) < 0.7 * statistics.mean(apart[:5]), apart
    assert statistics.mean(right[-5:]) > statistics.mean(right[:5]) + 0.08, right
    assert all(step["reward_mean"] == 0 for step in steps), "it was the teacher that it learned from"
    summary = usable(run)
    print(summary["held_out"])
    assert summary["held_out"]["after"]["pass_at_1"] > summary["held_out"]["before"]["pass_at_1"]
    assert check_logprobs(run.folder, models)[0] == 30 * 64


def test_a_teacher_that_is_killed_costs_no_group_and_no_tokens_logprob(
    start: Callable[..., Run], models: Models
) -> None:
    changes = GOING_ON | {
        "scorers.count": "2",
        "checkpoint_every_steps": "2",
        "learner.optimizer.learning_rate": "1e-5",
    }
    run = start(seconds=540.0, **settings(models, **changes))
    run.wait_for_step(2)
    wait_for_both(run)
    assert 'leeway_step_statistic{name="reverse_kl"}' in exported(run, "learner")
    assert 'leeway_scorer_answers_total{status="scored"}' in exported(run, "scorer")
    reached = outlives_a_scorer(run)
    groups = usable(run)["groups"]
    assert groups["dropped"].get("infra_error", 0) == 0, groups
    trained, verified = check_logprobs(run.folder, models)
    print("groups trained and committed", trained, "with a verdict", verified)
    assert trained >= 4 * reached


def test_whoever_is_killed_the_weights_are_those_of_the_batches_on_record(
    start: Callable[..., Run], models: Models
) -> None:
    """What the teacher has said is in the journal: training again on what that holds gives the same weights.

    It goes on until everybody has been replaced: a quick run of some steps would be over before the last one is killed.
    """
    changes = {
        "steps": ENDLESS,
        "evaluation.every_steps": "0",
        "evaluation.samples": "1",
        "tasks.held_out": "8",
        "checkpoint_every_steps": "2",
        "learner.checkpoint_keep_last": "1000000",
    }
    run = start(seconds=540.0, **settings(models, **changes))
    for role in ("Scorer", "Replay", "Learner"):
        run.wait_for_step(run.steps + 1)
        run.named(f"ray::{role}").kill()
        run.wait_for(f"another {role}", partial(run.happened, "restart", role=role.lower()))
    ends_when_asked(run, [])
    assert {e["role"] for e in run.events() if e["kind"] == "restart"} == {"scorer", "replay", "learner"}
    assert check_logprobs(run.folder, models)[0] == usable(run)["steps"] * 4
    again = subprocess.run(
        [sys.executable, "-m", "actors.cli", "replay", str(run.folder)],
        cwd=ROOT, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert again.returncode == 0, again.stdout + again.stderr
    saved = ", ".join(str(step) for step in sorted(checkpoints(run.folder / "checkpoints")) if step)
    assert f"bit-identical to the checkpoints of the steps {saved}" in " ".join(again.stdout.split())


def test_a_teacher_of_another_tokenizer_is_refused_before_anything_starts(
    start: Callable[..., Run], models: Models, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for file in models.teacher.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    file = other / "tokenizer.json"
    file.write_text(file.read_text().replace('"<reserved9>"', '"another"'))
    run = start(seconds=120.0, **settings(models, **{"distillation.teacher": str(other)}))
    assert run.end() == 2, run.text()
    assert "has another tokenizer than the student (of the student's 128 tokens 1 are others there" in run.text()
    assert not list(run.output.glob("*"))
