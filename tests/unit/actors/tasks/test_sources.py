"""Tasks and traces from files: what is read, and how a bad line is reported."""

import json
from pathlib import Path
from typing import Any

import pytest

from actors.config.tasks import TasksConfig
from actors.errors import RecipeError
from actors.tasks import Task, TaskStream, file_traces
from actors.tasks.sources import MAX_LABELS, open_source, source_labels


def tasks_of(source: dict[str, Any]) -> list[Task]:
    problems = open_source(TasksConfig.model_validate({"sources": [source]}).sources[0])
    return [problems[index] for index in range(len(problems))]


def write(path: Path, *lines: object) -> Path:
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n")
    return path


def test_lines_with_a_prompt_or_messages_become_tasks(tmp_path: Path) -> None:
    talk = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Capital of Peru?"}]
    path = write(
        tmp_path / "tasks.jsonl",
        {"prompt": "What is 6 times 7?", "answer": 42},
        "",
        {"messages": talk, "answer": "Lima", "verifier": "exact"},
    )
    number, capital = tasks_of({"source": "jsonl", "path": str(path), "verifier": "numeric"})
    assert number.messages == (("user", "What is 6 times 7?"),)
    assert (number.verifier, number.reference) == ("numeric", {"answer": "42"})
    assert capital.messages == (("system", "Be brief."), ("user", "Capital of Peru?"))
    assert (capital.verifier, capital.reference) == ("exact", {"answer": "Lima"})


def test_gsm8k_answers_are_what_follows_the_mark(tmp_path: Path) -> None:
    path = write(
        tmp_path / "gsm8k.jsonl",
        {"question": "A crate holds 12 jars. How many do 100 crates hold?", "answer": "12*100=1200\n#### 1,200"},
        {"question": "It is 3 degrees and falls by 5. What is it then?", "answer": "3-5=-2\n#### -2"},
    )
    tasks = tasks_of({"source": "gsm8k", "path": str(path)})
    assert [task.reference["answer"] for task in tasks] == ["1200", "-2"]
    assert tasks[0].messages == (("user", "A crate holds 12 jars. How many do 100 crates hold?"),)
    assert tasks[0].verifier == "math"


def test_the_answer_form_is_asked_for_and_recorded(tmp_path: Path) -> None:
    path = write(tmp_path / "tasks.jsonl", {"prompt": "What is 6 times 7?", "answer": "42"})
    (tag,) = tasks_of({"source": "jsonl", "path": str(path)})
    (boxed,) = tasks_of({"source": "jsonl", "path": str(path), "answer": "boxed"})
    (last,) = tasks_of({"source": "jsonl", "path": str(path), "answer": "last_number"})
    assert tag.reference == boxed.reference == {"answer": "42"}
    assert last.reference == {"answer": "42", "last_number": True}
    assert boxed.messages[0][1] == "What is 6 times 7?\nPut your final answer within \\boxed{}."
    assert tag.key == boxed.key == last.key


GOOD = {"prompt": "p", "answer": "a"}


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{not json", "not JSON"),
        ("[1, 2]", "a list, but each line must hold one JSON object"),
        ({"prompt": "p"}, "the key `answer` is missing; there are `prompt`"),
        ({"answer": "a"}, "give either `prompt` or `messages`"),
        ({**GOOD, "messages": []}, "give either `prompt` or `messages`"),
        ({"prompt": "", "answer": "a"}, "`prompt` must be a text that is not empty"),
        ({"prompt": "p", "answer": None}, "`answer` must be a text that is not empty, not None"),
        ({"prompt": "p", "answer": True}, "`answer` must be a text"),
        ({**GOOD, "verifier": ["math"]}, "`verifier` must be a text"),
        ({"prompt": "half \ud800", "answer": "a"}, "half of a surrogate pair"),
        ({**GOOD, "verfier": "math"}, "there is no key `verfier`; did you mean `verifier`?"),
        ({"prompt": "p", "anwser": "a"}, "there is no key `anwser`; did you mean `answer`?"),
        ({"message": [], "answer": "a"}, "there is no key `message`; did you mean `messages`?"),
        ('{"prompt": "p", "answer": "a", "answer": "b"}', "the key 'answer' occurs twice"),
        ({"messages": "hello", "answer": "a"}, "`messages` must be a list of objects"),
        ({"messages": [{"role": "user"}], "answer": "a"}, "needs `role` and `content` alone"),
        ({"messages": [{"role": "robot", "content": "c"}], "answer": "a"}, "a role must be one of system, user"),
        ({"messages": [{"role": "assistant", "content": "c"}], "answer": "a"}, "the last of `messages` must be"),
    ],
)
def test_a_bad_line_is_named_with_its_file_and_number(tmp_path: Path, line: object, complaint: str) -> None:
    path = write(tmp_path / "tasks.jsonl", GOOD, "", line, GOOD)
    with pytest.raises(RecipeError) as raised:
        tasks_of({"source": "jsonl", "path": str(path)})
    assert f"{path}, line 3: " in str(raised.value)
    assert complaint in str(raised.value)


def test_keys_that_resemble_no_absent_one_are_the_users_own(tmp_path: Path) -> None:
    own = {"answers": ["a", "b"], "prompts": 1, "difficulty": 3, "verified": True}
    (task,) = tasks_of({"source": "jsonl", "path": str(write(tmp_path / "tasks.jsonl", {**GOOD, **own}))})
    assert task.reference == {"answer": "a"}


def test_a_line_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_bytes(b'{"prompt": "p", "answer": "a"}\n{"prompt": "\xff", "answer": "a"}\n')
    with pytest.raises(RecipeError, match=r"line 2: not UTF-8"):
        tasks_of({"source": "jsonl", "path": str(path)})


def test_a_gsm8k_line_without_the_mark_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "gsm8k.jsonl", {"question": "q", "answer": "just 7"})
    with pytest.raises(RecipeError, match=r"line 1: `answer` must end in `#### result`"):
        tasks_of({"source": "gsm8k", "path": str(path)})


def test_a_missing_and_an_empty_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"absent.jsonl: cannot be read \(No such file or directory\)"):
        tasks_of({"source": "jsonl", "path": str(tmp_path / "absent.jsonl")})
    with pytest.raises(RecipeError, match=r"empty.jsonl: holds no task"):
        tasks_of({"source": "gsm8k", "path": str(write(tmp_path / "empty.jsonl", ""))})


def test_a_data_set_that_cannot_be_loaded_is_a_recipe_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    with pytest.raises(
        RecipeError, match=r"nobody/nothing \(main, train\): the data set cannot be loaded .* `source: jsonl`"
    ):
        tasks_of({"source": "datasets", "name": "nobody/nothing", "subset": "main"})


def test_traces_of_a_file_leave_out_what_is_held_out(tmp_path: Path) -> None:
    stream = TaskStream(
        TasksConfig.model_validate({"sources": [{"source": "addition", "digits": 1}], "held_out": 20}), 0
    )
    sums = [f"{a}+{b}=" for a in range(10) for b in range(10)]
    path = write(tmp_path / "traces.jsonl", *({"prompt": text, "response": "<answer>…</answer>"} for text in sums))
    kept = {task.messages[0][1] for task, _ in file_traces(path, stream)}
    held_out = {task.messages[0][1] for task in stream.held_out}
    assert kept
    assert not kept & held_out
    assert kept == {text for text in sums if not stream.is_held_out((("user", text),))}


def test_traces_need_a_response_and_something_to_train_on(tmp_path: Path) -> None:
    stream = TaskStream(
        TasksConfig.model_validate({"sources": [{"source": "addition", "digits": 1}], "held_out": 20}), 0
    )
    with pytest.raises(RecipeError, match="line 1: the key `response` is missing"):
        list(file_traces(write(tmp_path / "a.jsonl", {"prompt": "p"}), stream))
    held_out = {"prompt": stream.held_out[0].messages[0][1], "response": "r"}
    with pytest.raises(RecipeError, match="all of its 1 traces belong to held-out"):
        list(file_traces(write(tmp_path / "b.jsonl", held_out), stream))
    with pytest.raises(RecipeError, match="holds no trace"):
        list(file_traces(write(tmp_path / "c.jsonl", ""), stream))


def labels_of(*sources: dict[str, Any]) -> list[str]:
    return source_labels(TasksConfig.model_validate({"sources": sources}).sources)


def test_sources_have_readable_labels() -> None:
    assert labels_of(
        {"source": "addition", "digits": 3},
        {"source": "reasoning_gym", "family": "chain_sum"},
        {"source": "jsonl", "path": "/data/train.jsonl"},
        {"source": "gsm8k", "path": "train.jsonl"},
        {"source": "datasets", "name": "openai/gsm8k"},
        {"source": "jsonl", "path": "/other/train.jsonl"},
    ) == [
        "addition:3",
        "reasoning_gym:chain_sum",
        "jsonl:train.jsonl",
        "gsm8k:train.jsonl",
        "datasets:openai/gsm8k",
        "jsonl:train.jsonl#2",
    ]


def test_there_are_few_labels_however_many_sources() -> None:
    labels = labels_of(*({"source": "jsonl", "path": f"{number}{'x' * 500}.jsonl"} for number in range(50)))
    assert len(labels) == 50
    assert len(set(labels)) == MAX_LABELS
    assert labels[MAX_LABELS - 1 :] == ["other"] * (50 - MAX_LABELS + 1)
    assert max(map(len, labels)) <= 64
