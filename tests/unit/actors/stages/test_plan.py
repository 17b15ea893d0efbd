"""Which stages run again: whatever depends on what has changed, and nothing else."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from actors.config import pipeline as pipeline_of
from actors.config.keys import rows
from actors.config.pipeline import Pipeline, load_pipeline
from actors.config.recipe import Recipe
from actors.roles.scorer import files
from actors.stages.identity import NO_EFFECT, WHOLE_BYTES, fingerprint, identities
from actors.stages.plan import Action, Found, lines, plan

STAGES: list[dict[str, Any]] = [
    {"name": "cold", "kind": "sft", "recipe": {"cold_start": {"traces": "traces.jsonl"}}},
    {"name": "rl", "kind": "rl", "model": "cold", "recipe": {"steps": 3}},
    {"name": "zero", "kind": "rl", "recipe": {"steps": 3}},
    {"name": "test", "kind": "evaluate", "model": "rl"},
]

Read = Callable[..., Pipeline]


def reader(folder: Path) -> Read:
    (folder / "traces.jsonl").write_text("one")
    common = {"model": {"kind": "tiny"}, "tasks": {"sources": [{"source": "addition"}]}}
    tree = {"name": "p", "output": "runs", "base": str(folder), "common": common, "stages": STAGES}
    (folder / "p.yaml").write_text(yaml.safe_dump(tree))
    return lambda *overrides: load_pipeline(folder / "p.yaml", overrides)


@pytest.fixture
def read(tmp_path: Path) -> Read:
    return reader(tmp_path)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return reader(tmp_path_factory.mktemp("pipeline"))()


def actions(now: Pipeline, before: Pipeline | None = None, **found: Any) -> dict[str, str]:
    """What becomes of the stages once those of `before` are done, or as `found` says."""
    known = {} if before is None else {n: Found(i, finished=True, step=0) for n, i in identities(before).items()}
    return {p.stage.name: p.action.value for p in plan(now.stages, identities(now), known | found)}


def test_in_a_fresh_folder_all_stages_run(read: Read) -> None:
    assert set(actions(read()).values()) == {"run"}


def test_once_all_are_done_none_runs(read: Read) -> None:
    assert set(actions(read(), read()).values()) == {"done"}


@pytest.mark.parametrize(
    ("override", "again"),
    [
        ("stages.cold.recipe.learner.optimizer.learning_rate=1", {"cold", "rl", "test"}),
        ("stages.rl.recipe.steps=4", {"rl", "test"}),
        ("stages.test.recipe.evaluation.samples=3", {"test"}),
        ("common.seed=1", {"cold", "rl", "zero", "test"}),
        ("common.controller.restarts=9", set()),
        ("common.generators.count=2", set()),
    ],
)
def test_a_change_runs_again_what_depends_on_it(read: Read, override: str, again: set[str]) -> None:
    found = actions(read(override), read())
    assert {name for name, action in found.items() if action == "rerun"} == again
    assert {name for name, action in found.items() if action == "done"} == found.keys() - again


def test_other_lines_in_a_file_run_again_what_reads_it(read: Read, tmp_path: Path) -> None:
    before = identities(read())
    (tmp_path / "traces.jsonl").write_text("two")
    found = plan(
        read().stages, identities(read()), {name: Found(i, finished=True, step=0) for name, i in before.items()}
    )
    assert [p.action for p in found] == [Action.RERUN, Action.RERUN, Action.DONE, Action.RERUN]
    assert found[0].text == "runs again, since cold_start.traces is another file"
    assert found[1].text == "runs again, since stage cold is another one"


def test_a_folder_that_was_moved_is_still_done(read: Read) -> None:
    assert set(actions(read("output=elsewhere", "name=q"), read()).values()) == {"done"}


def test_a_stage_that_was_interrupted_resumes_and_what_comes_after_it_waits(read: Read) -> None:
    known = identities(read())
    found = actions(read(), read(), rl=Found(known["rl"], finished=False, step=2), test=None)
    assert found == {"cold": "done", "rl": "resume", "zero": "done", "test": "run"}


def test_without_a_checkpoint_or_a_record_a_stage_begins_anew(read: Read) -> None:
    known = identities(read())
    assert actions(read(), read(), zero=Found(known["zero"], finished=False, step=None))["zero"] == "rerun"
    assert actions(read(), read(), zero=Found(None, finished=True, step=3))["zero"] == "rerun"


@given(
    found=st.fixed_dictionaries(
        {
            name: st.none()
            | st.tuples(st.sampled_from(["same", "other", "unknown"]), st.booleans(), st.none() | st.just(1))
            for name in ("cold", "rl", "zero", "test")
        }
    )
)
def test_whatever_is_found_nothing_is_kept_whose_origin_is_not(pipeline: Pipeline, found: dict[str, Any]) -> None:
    known = identities(pipeline)
    there = {
        name: None
        if each is None
        else Found({"same": known[name], "other": {"steps": -1}, "unknown": None}[each[0]], *each[1:])
        for name, each in found.items()
    }
    planned = {p.stage.name: p for p in plan(pipeline.stages, known, there)}
    for name, each in planned.items():
        kept = each.action in (Action.DONE, Action.RESUME)
        if kept:
            assert all(planned[origin].action is Action.DONE for origin in each.stage.needs.values())
            assert there[name].identity == known[name]  # type: ignore[union-attr]
        assert (each.action is Action.RUN) == (there[name] is None)


def test_an_identity_is_the_same_once_it_was_written_and_read(read: Read) -> None:
    for found in identities(read()).values():
        assert json.loads(json.dumps(found)) == found


def test_every_key_without_effect_exists() -> None:
    keys = {key for key, _ in rows(Recipe)}
    assert keys >= NO_EFFECT


def test_what_stages_hand_on_is_called_as_runs_call_it() -> None:
    assert pipeline_of.REWARD_MODEL == files.FOLDER


def test_of_large_files_size_and_ends_are_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    with path.open("wb") as file:
        file.truncate(WHOLE_BYTES + 2)
    before = fingerprint(tmp_path)
    with path.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"x")
    assert fingerprint(tmp_path) != before != fingerprint(tmp_path / "nowhere") == "absent"


def test_the_plan_says_what_each_stage_begins_with_and_what_becomes_of_it(read: Read) -> None:
    table = lines(plan(read().stages, identities(read()), {}))
    assert table[1].split() == ["1", "cold", "sft", "tiny", "traces.jsonl", "will", "run"]
    assert table[2].split() == ["2", "rl", "rl", "cold", "will", "run"]
