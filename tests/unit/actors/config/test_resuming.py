"""Every key is either applied by a run that resumes, or refused with the reason."""

from pathlib import Path

import pytest

from actors.config.keys import rows
from actors.config.loading import load
from actors.config.recipe import Recipe
from actors.config.resuming import APPLIED, FIXED, changes, decides, refused

QUICKSTART = Path(__file__).parents[4] / "recipes" / "quickstart.yaml"


def test_every_key_is_classified_and_every_name_in_the_lists_is_one() -> None:
    keys = [key for key, _ in rows(Recipe)]
    leaves = [key for key in keys if not any(other.startswith(f"{key}.") for other in keys)]
    unclassified = [key for key in leaves if decides(key) is None]
    assert not unclassified, "say in actors/config/resuming.py what a run that resumes makes of them"
    assert not FIXED.keys() & APPLIED
    used = {decides(key) for key in leaves}
    assert used >= APPLIED, "there are no such keys"
    assert {key.partition("[")[0] for key in keys} >= {name for name in FIXED if "." not in name}
    assert used | {"learner.lora"} >= FIXED.keys()


@pytest.mark.parametrize(
    "override",
    [
        "name=other",
        "seed=1",
        "output=elsewhere",
        "model.layers=3",
        "model={kind: folder, path: /another/model}",
        "tasks.sources.0.digits=2",
        "tasks.sources=[{source: jsonl, path: other.jsonl}]",
        "tasks.held_out=7",
        "tasks.template=chat",
        "cold_start.examples=5",
        "cold_start=null",
        "preferences.pairs=pairs.jsonl",
        "learner.lora.rank=4",
        "learner.objective.name=dapo",
        "evaluation.sampling.temperature=0.5",
    ],
)
def test_what_the_checkpoint_or_the_record_depends_on_is_refused_by_name(override: str) -> None:
    (line,) = refused(load(QUICKSTART), load(QUICKSTART, [override]))
    key = override.partition("=")[0]
    named, _, why = line.partition(": ")
    assert key.startswith(named) or named.startswith(key)
    assert why == FIXED[str(decides(named))]


@pytest.mark.parametrize(
    "override",
    [
        "steps=500",
        "replay.groups_per_batch=3",
        "replay.group_size=3",
        "replay.max_staleness=1",
        "learner.optimizer.learning_rate=1e-7",
        "learner.optimizer.betas=[0.5, 0.6]",
        "learner.objective.clip_high=0.3",
        "learner.cpus=2",
        "generators.engine=synthetic",
        "evaluation.every_steps=3",
        "checkpoint_every_steps=3",
        "tasks.max_prompt_tokens=17",
        "tasks.curriculum={floor: 0.5}",
    ],
)
def test_what_a_run_can_go_on_with_is_applied(override: str) -> None:
    before, after = load(QUICKSTART), load(QUICKSTART, [override])
    assert refused(before, after) == []
    assert list(changes(before, after)) == [override.partition("=")[0]]


def test_adapters_may_be_sent_another_way_but_not_be_others() -> None:
    before = load(QUICKSTART, ["learner.lora.rank=4"])
    assert refused(before, load(QUICKSTART, ["learner.lora={rank: 4, broadcast: adapters}"])) == []
    for other in ("learner.lora.rank=8", "learner.lora={rank: 4, alpha: 8}", "learner.lora=null"):
        assert refused(before, load(QUICKSTART, [other]))


def test_a_kl_term_may_change_or_go_but_not_come() -> None:
    none = load(QUICKSTART)
    some = load(QUICKSTART, ["learner.objective.kl=k3", "learner.objective.kl_coefficient=0.1"])
    other = load(QUICKSTART, ["learner.objective.kl=k2", "learner.objective.kl_coefficient=0.2"])
    assert refused(some, none) == refused(some, other) == []
    (line,) = refused(none, some)
    assert line.startswith("learner.objective.kl: ") and "reference" in line


def test_what_is_not_changed_is_no_change() -> None:
    assert changes(load(QUICKSTART), load(QUICKSTART, ["seed=0"])) == {}


def test_another_teacher_is_none_for_groups_that_have_what_the_first_has_said() -> None:
    taught = ["distillation.teacher=/teacher", "learner.objective.name=opd"]
    before = load(QUICKSTART, taught)
    assert refused(before, load(QUICKSTART, [*taught, "distillation.dtype=bfloat16"])) == []
    (line,) = refused(before, load(QUICKSTART, [*taught, "distillation.teacher=/other"]))
    assert line.startswith("distillation.teacher: groups that wait to be trained")
    lines = refused(before, load(QUICKSTART))
    assert any(line.startswith("distillation: groups that wait to be trained") for line in lines)
