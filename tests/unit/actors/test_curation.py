"""What is kept of sampled completions: laws that hold of any, and each reason for dropping one."""

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.config.stages import CurationConfig, MixConfig
from actors.config.tasks import JsonlSource, TasksConfig
from actors.curation import curate, flaw, normalised, select, to_mix
from actors.tasks import TaskStream, file_traces

TEXTS = st.sampled_from(["4+4=8", "4 + 4 = 8.", "Eight", "eight!", "<think>4+4</think>8", "```\n", ""])


def row(task: str = "t", sample: int = 0, response: str = "8", **changes: Any) -> dict[str, Any]:
    return {
        "task": task,
        "number": 0,
        "sample": sample,
        "source": "sums",
        "messages": [{"role": "user", "content": f"what is {task}?"}],
        "prompt": f"User: what is {task}?",
        "response": response,
        "status": "ok",
        "reward": 1.0,
        "parts": {"accuracy": 1.0},
        "truncated": False,
        "model": "abc",
    } | changes


@st.composite
def samples(draw: st.DrawFn) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    for task in range(draw(st.integers(1, 4))):
        for sample in range(draw(st.integers(1, 6))):
            accuracy = draw(st.sampled_from([0.0, 0.5, 1.0]))
            found.append(row(f"t{task}", sample, draw(TEXTS), parts={"accuracy": accuracy}))
    return found


CONFIGS = st.builds(
    CurationConfig,
    max_per_task=st.none() | st.integers(1, 3),
    deduplicate=st.sampled_from(["exact", "normalised"]),
    min_accuracy=st.sampled_from([0.5, 1.0]),
)


@given(samples(), CONFIGS, st.integers(0, 3), st.randoms())
def test_every_law_of_a_selection(
    rows: list[Mapping[str, Any]], config: CurationConfig, seed: int, shuffle: random.Random
) -> None:
    found = select(rows, config, seed)
    kept = [rows[position] for _, position in found.kept]
    assert found.sampled == len(rows) == len(kept) + sum(found.dropped.values())
    assert all(each["parts"]["accuracy"] >= config.min_accuracy for each in kept), "every one that is kept verifies"
    form = normalised if config.deduplicate == "normalised" else str
    distinct = [(each["task"], form(each["response"])) for each in kept]
    assert len(set(distinct)) == len(distinct), "no duplicates"
    for task in {each["task"] for each in rows}:
        good = {form(each["response"]) for each in rows if each["task"] == task and flaw(each, config) is None}
        expected = min(len(good), config.max_per_task or len(good))
        assert sum(each["task"] == task for each in kept) == expected, "the cap, and nothing beyond it is lost"
    again = list(rows)
    shuffle.shuffle(again)
    other = select(again, config, seed)
    assert [again[position] for _, position in other.kept] == kept, "the order of arrival does not matter"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"parts": {"accuracy": 0.5}}, "not_verified"),
        ({"parts": {}, "reward": 0.0}, "not_verified"),
        ({"parts": {"format": 1.0}, "reward": 1.0, "status": "unverified"}, "not_verified"),
        ({"response": " \n"}, "empty"),
        ({"truncated": True}, "truncated"),
        ({"parts": {"accuracy": 1.0, "format": 0.0}}, "format"),
        ({"parts": {"accuracy": 1.0, "language": 0.9}}, "language"),
        ({"response": "<think>" + "word " * 900 + "</think>8"}, "long_paragraph"),
        ({"response": "<think>" + "word " * 700 + "\n\n" + "word " * 700 + "</think>8"}, None),
        ({"response": "<think>short</think>" + "word " * 900}, None),
        ({"response": "<think>\n```python\nx = 1\n</think>8"}, "code_block"),
        ({"response": "<think>\n```\n\n```\n</think>8"}, "code_block"),
        ({"response": "<think>\n```python\nx = 1\n```\n</think>8"}, None),
    ],
)
def test_what_is_wrong_with_a_completion_is_named(changes: Mapping[str, Any], reason: str | None) -> None:
    assert flaw(row(**changes), CurationConfig()) == reason


def test_a_filter_that_is_switched_off_drops_nothing() -> None:
    lax = CurationConfig(require_format=False, min_language=0, max_paragraph_chars=None, code_blocks="any")
    parts = {"accuracy": 1.0, "format": 0.0, "language": 0.1}
    assert flaw(row(response="word " * 2000 + "\n```\n", truncated=True, parts=parts), lax) is None
    strict = CurationConfig(code_blocks="none")
    assert flaw(row(response="```\nx = 1\n```"), strict) == "code_block"


def test_two_responses_are_the_same_but_for_case_white_space_and_punctuation() -> None:
    assert normalised("So, 4 + 4\n= 8.") == normalised("so 4+4=8")
    assert normalised("4+4=8") != normalised("4+4=9")
    assert normalised("2 - 1") != normalised("21")


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 5))
def test_a_mix_has_its_share_and_no_example_twice(kept: int, there: int, seed: int) -> None:
    examples = [{"messages": [{"role": "user", "content": str(n)}], "response": "hi"} for n in range(there)] * 2
    mixed = to_mix(examples, MixConfig(path=Path("x"), share=0.25), kept, seed)
    assert len(mixed) == min(there, round(kept / 3))
    assert len({each["messages"][0]["content"] for _, each in mixed}) == len(mixed)
    assert to_mix(examples[::-1], MixConfig(path=Path("x"), share=0.25), kept, seed) == mixed
    assert len(to_mix(examples, MixConfig(path=Path("x"), examples=7), kept, seed)) == min(there, 7)


def test_what_is_curated_is_read_as_traces_and_says_where_it_is_from(tmp_path: Path) -> None:
    drawn = tmp_path / "samples-drawn.jsonl"
    rows = [row(f"task {n}", sample, f"{n}\u2028\ud800" * (sample + 1)) for n in range(6) for sample in range(3)]
    drawn.write_bytes(b"".join((json.dumps(each) + "\n").encode() for each in rows))
    general = tmp_path / "general.jsonl"
    general.write_text(json.dumps({"prompt": "hello", "response": "good day"}) + "\n")
    config = CurationConfig(max_per_task=2, mix=MixConfig(path=general, examples=5))
    selection, mixed = curate(drawn, tmp_path / "curated.jsonl", config, 3)
    assert (len(selection.kept), selection.tasks, mixed) == (12, 6, 1)
    content = (tmp_path / "curated.jsonl").read_bytes()
    found = [json.loads(line) for line in content.splitlines()]
    assert all(each["model"] == "abc" for each in found if each["source"] == "sums")
    assert [each["source"] for each in found].count("mix:general.jsonl") == 1
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text("".join(json.dumps({"prompt": f"p{n}", "answer": "1"}) + "\n" for n in range(9)))
    stream = TaskStream(TasksConfig(sources=[JsonlSource(source="jsonl", path=tasks)], held_out=1, development=0), 0)
    traces = list(file_traces(tmp_path / "curated.jsonl", stream))
    assert len(traces) == 13
    drawn.write_bytes(b"".join(reversed(drawn.read_bytes().splitlines(keepends=True))))
    curate(drawn, tmp_path / "again.jsonl", config, 3)
    assert (tmp_path / "again.jsonl").read_bytes() == content
