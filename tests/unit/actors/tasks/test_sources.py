"""Tasks and traces from files: what is read, and how a bad line is reported."""

import gzip
import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.config.tasks import TasksConfig
from actors.errors import RecipeError
from actors.tasks import Task, TaskStream, file_traces, read_pairs
from actors.tasks.records import final_answer, text_field
from actors.tasks.sources import MAX_LABELS, open_source, source_labels, without_preferences
from actors.transport.codec import Message, decode, encode
from sandbox import Pool, RewardConfig, SandboxConfig, Submission, verifier


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


ADD = {"entry": "add", "tests": [[[1, 2.5], 3.5], [[10**20, 1], 10**20 + 1]]}


@pytest.mark.parametrize("line", [{"reference": ADD}, ADD])
def test_a_program_is_verified_by_the_tests_of_its_line(tmp_path: Path, line: dict[str, Any]) -> None:
    """Under `reference` or beside the prompt, as `leeway score` reads them; numbers are numbers."""
    path = write(tmp_path / "tasks.jsonl", {"prompt": "Add two numbers.", "verifier": "function", **line})
    (task,) = tasks_of({"source": "jsonl", "path": str(path)})
    assert (task.messages, task.verifier) == ((("user", "Add two numbers."),), "function")
    assert task.reference == ADD and isinstance(task.reference["tests"][1][1], int)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ({"reference": {**ADD, "test": "x"}}, "function has no field `test`; did you mean `tests`?"),
        ({"reference": ADD, "entry": "add"}, "`reference` and `entry` are both given; move `entry` into it"),
        ({"reference": ADD, "answer": "3"}, "`reference` and `answer` are both given"),
        ({"reference": [1]}, "`reference` must be an object"),
        ({"reference": {"entry": "add", "tests": []}}, '`reference`: the reference needs "tests"'),
        ({"reference": {"entry": "add", "tests": [[1, 2]]}}, "every test of a function reference is [args, expected]"),
        ({"entry": "add", "test": [[[1], 1]]}, "there is no key `test`; did you mean `tests`?"),
        ({"entry": "add +", "tests": [[[1], 1]]}, 'needs "entry", the name of the function'),
    ],
)
def test_tests_that_cannot_be_run_are_named_with_file_and_line(
    tmp_path: Path, line: dict[str, Any], complaint: str
) -> None:
    path = write(tmp_path / "tasks.jsonl", {"prompt": "Add two numbers.", "verifier": "function", **line})
    with pytest.raises(RecipeError) as raised:
        tasks_of({"source": "jsonl", "path": str(path)})
    assert f"{path}, line 1: " in str(raised.value) and complaint in str(raised.value)


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
        ("null", "null, but each line must hold one JSON object"),
        ("3.50", "a number, but each line must hold"),
        ("[" * 100_000, "nested too deeply"),
        ('{"prompt": "p", "answer": NaN}', "`answer` must be a text that is not empty, not nan"),
        ('{"prompt": "p", "answer": -Infinity}', "`answer` must be a text that is not empty, not -inf"),
        ({"prompt": "p", "answer": [1, 2]}, "`answer` must be a text"),
        ({"prompt": "p", "answer": {"value": 3}}, "`answer` must be a text"),
        ({"prompt": " \t", "answer": "a"}, "`prompt` must be a text that is not empty"),
        ({**GOOD, "answer": "half \udc01"}, "`answer` holds half of a surrogate pair"),
        ({**GOOD, "verifier": "maths"}, "`verifier`: no verifier is called 'maths'"),
        ({**GOOD, "verifier": 3}, "`verifier`: no verifier is called '3'"),
        ({**GOOD, "verifier": "stdio"}, "`verifier`: stdio reads checker, "),
        ({**GOOD, "verifier": "reasoning_gym"}, "`verifier`: reasoning_gym reads dataset, entry"),
        ({"prompt": "p", "answer": "six", "verifier": "numeric"}, "`answer`: the reference's answer is not a number"),
    ],
)
def test_a_bad_line_is_named_with_its_file_and_number(tmp_path: Path, line: object, complaint: str) -> None:
    path = write(tmp_path / "tasks.jsonl", GOOD, "", line, GOOD)
    with pytest.raises(RecipeError) as raised:
        tasks_of({"source": "jsonl", "path": str(path)})
    assert f"{path}, line 3: " in str(raised.value)
    assert complaint in str(raised.value)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("3", "3"),
        ("-0", "-0"),
        ("3.0", "3.0"),
        ("1.10", "1.10"),
        ("0.1", "0.1"),
        ("1e20", "1e20"),
        ("1E-400", "1E-400"),
        ("12345678901234567890", "12345678901234567890"),
        ("3.14159265358979323846264338327950288", "3.14159265358979323846264338327950288"),
        ('"3"', "3"),
        ('"1,234"', "1,234"),
        ('"$5"', "$5"),
        ('"(1, 2)"', "(1, 2)"),
        ('"[[1,2],[3,4]]"', "[[1,2],[3,4]]"),
        ('" 7 "', " 7 "),
        ('"true"', "true"),
        ('"\\ud83d\\ude00"', "\U0001f600"),
    ],
)
def test_an_answer_reaches_its_verifier_as_it_stands_in_the_file(tmp_path: Path, written: str, meant: str) -> None:
    line = '{"prompt": "p", "verifier": "exact", "answer": ' + written + "}"
    (task,) = tasks_of({"source": "jsonl", "path": str(write(tmp_path / "tasks.jsonl", line))})
    assert task.reference == {"answer": meant}
    travelled = decode(encode(Message("k", 1, {"reference": dict(task.reference)})), 2**20)
    assert travelled.body["reference"] == {"answer": meant}
    with Pool(SandboxConfig(), RewardConfig()) as pool:
        submission = Submission(task.verifier, f"<answer>{meant}</answer>", travelled.body["reference"])
        assert pool.score([submission], 10.0)[0].parts["accuracy"] == 1.0


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        (3, "3"),
        (2.5, "2.5"),
        (np.int64(7), "7"),
        (np.float32(0.1), "0.1"),
        (Decimal("1.10"), "1.10"),
        ("1,234", "1,234"),
    ],
)
def test_a_tables_number_is_its_text(value: object, meant: str) -> None:
    assert text_field({"answer": value}, "answer", "row 3") == meant


@pytest.mark.parametrize(
    "value", [None, True, float("nan"), Decimal("NaN"), date(2024, 1, 2), [1], np.array([1, 2]), b"3", {"a": 1}]
)
def test_what_is_neither_text_nor_a_number_in_a_table_is_named_with_row_and_field(value: object) -> None:
    with pytest.raises(RecipeError, match="row 3: `answer` must be a text that is not empty, not "):
        text_field({"answer": value}, "answer", "row 3")


@pytest.mark.parametrize(
    ("solution", "meant"),
    [
        ("#### 1,234,567", "1234567"),
        ("#### $1,200.50", "$1200.50"),
        ("#### -1,000 %", "-1000 %"),
        ("#### (1,2)", "(1,2)"),
        ("#### 1,2,3", "1,2,3"),
        ("#### (1,234)", "(1,234)"),
        ("1,234", "1,234"),
        ("5 #### 6 #### 7", "7"),
    ],
)
def test_only_separators_of_thousands_are_taken_out_of_a_result(solution: str, meant: str) -> None:
    assert final_answer(solution) == meant


def test_a_byte_order_mark_and_windows_line_ends_are_no_part_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"prompt": "p", "answer": "a"}\r\n\r\n  \r\n{"prompt": "q", "answer": "b"}')
    assert [task.reference["answer"] for task in tasks_of({"source": "jsonl", "path": str(path)})] == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (gzip.compress(b'{"prompt": "p", "answer": "a"}', mtime=0), "is compressed with gzip; unpack it"),
        (b"PAR1\x15\x04", "let its name end in .parquet"),
        ('{"prompt": "p", "answer": "a"}'.encode("utf-16"), "is UTF-16; convert it to UTF-8"),
    ],
)
def test_a_file_in_another_form_is_named_with_what_to_do(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=says):
        tasks_of({"source": "jsonl", "path": str(path)})


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"cannot be read \(Is a directory\); correct `path`"):
        tasks_of({"source": "jsonl", "path": str(tmp_path)})


@pytest.mark.parametrize("template", ["raw", "r1_zero"])
def test_a_conversation_needs_a_template_that_takes_one(tmp_path: Path, template: str) -> None:
    talk = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    path = write(tmp_path / "tasks.jsonl", GOOD, {"messages": talk, "answer": "Hi"}, {**GOOD, "prompt": "q"})
    tree: dict[str, Any] = {"sources": [{"source": "jsonl", "path": str(path)}], "held_out": 1, "development": 0}
    assert TaskStream(TasksConfig.model_validate(tree), 0).held_out
    with pytest.raises(RecipeError, match=r"line 2: `messages` has 2 of them, which needs `tasks.template: chat`"):
        TaskStream(TasksConfig.model_validate(tree | {"template": template}), 0)
    with pytest.raises(RecipeError, match=r"line 1: `messages` has 2 of them"):
        read_pairs(write(tmp_path / "pairs.jsonl", {"messages": talk, "chosen": "a", "rejected": "b"}), single=True)


def test_a_verifier_of_the_users_own_is_known_once_it_is_registered(tmp_path: Path) -> None:
    line = {"prompt": "p", "answer": "a", "verifier": "a-palindrome-for-this-test"}
    source = {"source": "jsonl", "path": str(write(tmp_path / "tasks.jsonl", line))}
    with pytest.raises(RecipeError, match="no verifier is called"):
        tasks_of(source)

    @verifier("a-palindrome-for-this-test")
    def palindrome(submission: Submission) -> bool:
        return submission.response[0] == submission.response[-1]  # stumbles over an empty response

    assert [task.verifier for task in tasks_of(source)] == ["a-palindrome-for-this-test"]


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


def test_preferences_are_of_the_sources_that_want_them() -> None:
    sources = TasksConfig.model_validate(
        {
            "sources": [
                {"source": "addition", "digits": 2, "preferences": False},
                {"source": "addition", "digits": 3},
                {"source": "jsonl", "path": "general.jsonl", "verifier": "none"},
            ]
        }
    ).sources
    assert without_preferences(sources) == {"addition:2"}
    assert without_preferences(sources[1:]) == frozenset()
