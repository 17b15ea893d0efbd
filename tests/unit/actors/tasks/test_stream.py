"""The stream of tasks: deterministic, endless, and never a held-out problem in training."""

import json
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.config.tasks import TasksConfig
from actors.errors import RecipeError
from actors.tasks import TaskStream, addition_traces
from actors.tasks.task import Task, problem_key, split_hash


def config(*sources: dict[str, Any], **options: Any) -> TasksConfig:
    return TasksConfig.model_validate({"sources": sources, "template": "raw", **options})


def jsonl(path: Path, questions: list[str]) -> dict[str, Any]:
    path.write_text("".join(json.dumps({"prompt": text, "answer": text[::-1]}) + "\n" for text in questions))
    return {"source": "jsonl", "path": str(path)}


ADDITION = {"source": "addition", "digits": 3}


def test_equal_configuration_and_seed_give_equal_tasks_at_any_index() -> None:
    first, second = TaskStream(config(ADDITION), 7), TaskStream(config(ADDITION), 7)
    assert [first.train(index) for index in range(300)] == [second.train(index) for index in range(300)]
    assert first.train(10**12) == second.train(10**12)
    assert first.held_out == second.held_out


def test_the_seed_changes_the_order_but_not_the_split() -> None:
    first, second = TaskStream(config(ADDITION), 1), TaskStream(config(ADDITION), 2)
    assert [first.train(index).key for index in range(50)] != [second.train(index).key for index in range(50)]
    assert first.held_out == second.held_out
    assert first.development(100) == second.development(100)


def test_the_three_sides_are_disjoint_and_have_the_size_asked_for() -> None:
    stream = TaskStream(config(ADDITION, held_out=256, development=100), 0)
    held_out = {task.key for task in stream.held_out}
    development = {task.key for task in stream.development(100)}
    train = {stream.train(index).key for index in range(20_000)}
    assert len(held_out) == len(stream.held_out) == 256
    assert len(development) == 100
    assert not held_out & development
    assert not (held_out | development) & train


def test_a_sum_is_held_out_with_its_summands_swapped() -> None:
    stream = TaskStream(config({"source": "addition", "digits": 1}, held_out=20, development=5), 0)
    apart = {task.messages[0][1] for task in (*stream.held_out, *stream.development(5))}
    swapped = {"{1}+{0}=".format(*text.rstrip("=").split("+")) for text in apart}
    trained = {stream.train(index).messages[0][1] for index in range(2000)}
    assert not (apart | swapped) & trained
    assert all(stream.is_held_out((("user", text),)) for text in apart | swapped)
    # 55 sums are distinct up to order; all others are trained on
    assert len({frozenset(text.rstrip("=").split("+")) for text in trained}) == 55 - 25


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    questions=st.lists(st.text("abc ?", min_size=1, max_size=4).filter(str.strip), min_size=8, max_size=60),
    more=st.lists(st.text("abc ?", min_size=1, max_size=4).filter(str.strip), min_size=8, max_size=60),
    held_out=st.integers(2, 6),
    seed=st.integers(0, 100),
)
def test_no_mixture_of_files_that_share_problems_trains_on_a_held_out_one(
    tmp_path: Path, questions: list[str], more: list[str], held_out: int, seed: int
) -> None:
    recipe = config(jsonl(tmp_path / "a", questions), jsonl(tmp_path / "b", more), held_out=held_out, development=4)
    try:
        stream = TaskStream(recipe, seed)
    except RecipeError as error:
        assert "lower tasks.held_out" in str(error)
        return
    keys = [task.key for task in stream.held_out]
    assert len(set(keys)) == len(keys) == held_out
    assert not set(keys) & {stream.train(index).key for index in range(500)}


def test_a_file_is_read_once_before_any_of_its_problems_repeats(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "tasks.jsonl", [f"question {number}" for number in range(100)])
    stream = TaskStream(config(source, held_out=10, development=8), 3)
    epochs = [[stream.train(82 * epoch + position).key for position in range(82)] for epoch in range(2)]
    assert len(set(epochs[0])) == 82
    assert set(epochs[0]) == set(epochs[1])
    assert epochs[0] != epochs[1]


def test_sources_are_mixed_by_weight_in_training_and_held_out(tmp_path: Path) -> None:
    source = {**jsonl(tmp_path / "tasks.jsonl", [f"question {number}" for number in range(500)]), "weight": 3}
    stream = TaskStream(config(source, ADDITION, held_out=40), 0)
    from_file = [stream.train(index).verifier == "math" for index in range(1000)]
    assert sum(from_file) == 750
    assert sum(task.verifier == "math" for task in stream.held_out) == 30
    # mixed from the start, so that a part of the held-out tasks stands for all of them
    assert 0 < sum(task.verifier == "math" for task in stream.held_out[:16]) < 16


def test_every_task_says_which_source_it_is_from(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "tasks.jsonl", [f"question {number}" for number in range(100)])
    stream = TaskStream(config(source, ADDITION, held_out=20, development=8), 0)
    labels = {"math": "jsonl:tasks.jsonl", "exact": "addition:3"}
    tasks = [*(stream.train(index) for index in range(50)), *stream.held_out, *stream.development(8)]
    assert {task.source for task in tasks} == set(labels.values())
    assert all(task.source == labels[task.verifier] for task in tasks)


def test_a_source_that_is_too_small_says_how_small(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "tasks.jsonl", ["one", "two", "two ", "three"])
    with pytest.raises(RecipeError, match=r"tasks.jsonl: 3 distinct problems .* 3 should be held out; lower"):
        TaskStream(config(source, held_out=3), 0)
    with pytest.raises(RecipeError, match=r"addition .*: 55 distinct problems"):
        TaskStream(config({"source": "addition", "digits": 1}, held_out=256), 0)


def test_asking_for_more_development_tasks_than_are_held_out_says_what_to_raise() -> None:
    with pytest.raises(RecipeError, match=r"65 development tasks .* 64 are held out for it; raise tasks.development"):
        TaskStream(config(ADDITION, development=64), 0).development(65)


def test_a_negative_index_is_refused() -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        TaskStream(config(ADDITION), 0).train(-1)


def test_the_traces_of_sums_avoid_everything_that_is_held_out() -> None:
    stream = TaskStream(config({"source": "addition", "digits": 2}, held_out=200, development=100), 0)
    apart = {task.key for task in (*stream.held_out, *stream.development(100))}
    for task, trace in islice(addition_traces(stream), 3000):
        assert task.key not in apart
        assert trace.endswith(f"<answer>{task.reference['answer']}</answer>")


def test_keys_ignore_white_space_forms_and_system_messages_only() -> None:
    key = problem_key((("user", "What is  ２+2?\n"),))
    assert key == problem_key((("system", "Be brief."), ("user", "What is 2+2?")))
    assert key != problem_key((("user", "What is 2+3?"),))
    assert 0 <= split_hash(key) < 1


def test_tasks_survive_messagepack() -> None:
    for task in TaskStream(config(ADDITION), 0).held_out[:5]:
        fields = (task.key, task.messages, task.verifier, task.reference, task.source)
        key, messages, verifier, reference, source = msgpack.unpackb(msgpack.packb(fields))
        assert Task(key, tuple(map(tuple, messages)), verifier, reference, source) == task


def test_a_recipe_without_reasoning_gym_does_not_import_it() -> None:
    program = (
        "import sys; from actors.tasks import TaskStream; from actors.config.tasks import TasksConfig; "
        "TaskStream(TasksConfig(sources=[{'source': 'addition'}]), 0); "
        "print([name for name in ('reasoning_gym', 'datasets', 'torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def general(path: Path, count: int, verifier: str = "none") -> dict[str, Any]:
    path.write_text("".join(json.dumps({"prompt": f"write about {n}"}) + "\n" for n in range(count)))
    return {"source": "jsonl", "path": str(path), "verifier": verifier}


def test_prompts_that_no_rule_decides_are_trained_on_and_never_held_out(tmp_path: Path) -> None:
    sources = ADDITION | {"weight": 1.0}, general(tmp_path / "general.jsonl", 3)
    stream = TaskStream(config(*sources, held_out=20, development=10), 0)
    assert len(stream.held_out) == 20 and len(stream.development(10)) == 10
    assert all(task.has_rule for task in (*stream.held_out, *stream.development(10)))
    trained = [stream.train(index) for index in range(100)]
    without = {task.messages[0][1] for task in trained if not task.has_rule}
    assert without == {"write about 0", "write about 1", "write about 2"}
    assert all((task.verifier, dict(task.reference)) == ("none", {}) for task in trained if not task.has_rule)


def test_in_one_file_only_the_lines_with_a_rule_are_held_out(tmp_path: Path) -> None:
    path = tmp_path / "both.jsonl"
    lines = [
        {"prompt": f"p{n}", "answer": "1"} if n % 2 else {"prompt": f"p{n}", "verifier": "none"} for n in range(20)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    stream = TaskStream(config({"source": "jsonl", "path": str(path)}, held_out=6, development=0), 0)
    assert len(stream.held_out) == 6 and all(task.has_rule for task in stream.held_out)
    trained = {stream.train(index).messages[0][1] for index in range(60)}
    assert trained >= {f"p{n}" for n in range(0, 20, 2)} and len(trained) == 14
    everything = TaskStream(config({"source": "jsonl", "path": str(path)}, held_out="all", development=0), 0)
    assert len(everything.held_out) == 10


def test_without_any_rule_there_is_nothing_to_measure(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no task has a rule to measure accuracy by"):
        TaskStream(config(general(tmp_path / "general.jsonl", 50), held_out=1, development=0), 0)


def test_an_answer_beside_no_rule_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "general.jsonl"
    path.write_text(json.dumps({"prompt": "p", "answer": "a", "verifier": "none"}) + "\n")
    with pytest.raises(RecipeError, match="line 1: the verifier none compares with nothing, so `answer` would be"):
        TaskStream(config(ADDITION, {"source": "jsonl", "path": str(path)}), 0)
