"""What the lines of files and a chat template show to be wrong."""

import json
from pathlib import Path
from typing import Any

import pytest

from actors.config.loading import load
from actors.config.model import TinyModel
from actors.config.recipe import Recipe
from actors.models import tiny, tokenizer
from actors.tasks import checks

QUICKSTART = Path(__file__).parents[4] / "recipes" / "quickstart.yaml"
TASKS = [{"prompt": f"what is {n} + {n}?", "answer": 2 * n} for n in range(20)]


def written(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def recipe(file: Path, *overrides: str) -> Recipe:
    small = ["tasks.held_out=4", "tasks.development=2", "cold_start=null"]
    return load(QUICKSTART, [f"tasks.sources=[{{source: jsonl, path: {file}}}]", *small, *overrides])


def test_good_lines_are_no_problem(tmp_path: Path) -> None:
    assert checks.problems(recipe(written(tmp_path / "tasks.jsonl", TASKS))) == []


def test_a_line_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    file = written(tmp_path / "tasks.jsonl", [*TASKS, {"prompt": "?"}])
    [problem] = checks.problems(recipe(file))
    assert f"{file}, line 21: the key `answer` is missing" in problem


def test_a_verifier_that_a_line_names_must_exist(tmp_path: Path) -> None:
    lines = [*TASKS, {"prompt": "?", "answer": "!", "verifier": "maths"}]
    [problem] = checks.problems(recipe(written(tmp_path / "tasks.jsonl", lines)))
    assert "tasks.jsonl, line 21: `verifier`: no verifier is called 'maths'" in problem


def test_too_few_tasks_are_told_before_anything_starts(tmp_path: Path) -> None:
    [problem] = checks.problems(recipe(written(tmp_path / "tasks.jsonl", TASKS), "tasks.held_out=20"))
    assert "lower tasks.held_out" in problem


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("family: chain_sum, options: {min_terms: 2}", None),
        ("family: chainsum", "did you mean chain_sum"),
        ("family: chain_sum, options: {min_term: 2}", "did you mean min_terms"),
        ("family: chain_sum, options: {min_terms: -1}", "refuses its `options`"),
    ],
)
def test_a_family_and_its_options_are_looked_at_where_the_package_is(
    monkeypatch: pytest.MonkeyPatch, source: str, says: str | None
) -> None:
    tree = load(QUICKSTART, ["cold_start=null", f"tasks.sources=[{{source: reasoning_gym, {source}}}]"])
    found = checks.problems(tree)
    assert (found == []) if says is None else (says in found[0])
    assert list(checks.unchecked(tree)) == []
    monkeypatch.setattr(checks, "find_spec", lambda _: None)
    assert checks.problems(tree) == []
    assert ["reasoning-gym" in what for what in checks.unchecked(tree)] == [True]


def test_a_bad_trace_is_named_unless_the_cold_start_is_over(tmp_path: Path) -> None:
    traces = written(tmp_path / "traces.jsonl", [{"prompt": "?"}])
    file = written(tmp_path / "tasks.jsonl", TASKS)
    tree = recipe(file, f"cold_start={{traces: {traces}}}")
    [problem] = checks.problems(tree)
    assert f"{traces}, line 1: the key `response` is missing" in problem
    assert checks.problems(tree, resumed=True) == []


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}", None),
        ("{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}", "shows no system"),
        ("{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}", "refuses a system message"),
    ],
)
def test_a_system_message_needs_a_template_that_shows_it(tmp_path: Path, template: str, says: str | None) -> None:
    tiny.write(TinyModel(kind="tiny", hidden_size=32, heads=1, layers=1), tmp_path / "model", seed=0)
    (tmp_path / "model" / "chat_template.jinja").write_text(template)
    chat = ["tasks.template=chat", f"model={{kind: folder, path: {tmp_path / 'model'}}}"]
    tree = recipe(written(tmp_path / "tasks.jsonl", TASKS), *chat, "tasks.system=Think.")
    assert checks.looks_at_template(tree)
    found = checks.problems(tree)
    assert (found == []) if says is None else (says in found[0] and "tasks.system" in found[0])
    assert checks.problems(recipe(tmp_path / "tasks.jsonl", *chat)) == []


def test_a_tokenizer_is_loaded_once_however_many_checks_ask_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Path] = []

    def load_tokenizer(folder: Path) -> Any:
        loaded.append(folder)
        return tokenizer.load_tokenizer(folder)

    monkeypatch.setattr(checks, "load_tokenizer", load_tokenizer)
    tiny.write(TinyModel(kind="tiny", hidden_size=32, heads=1, layers=1), tmp_path / "model", seed=0)
    chat = ["tasks.template=chat", f"model={{kind: folder, path: {tmp_path / 'model'}}}"]
    tree = recipe(written(tmp_path / "tasks.jsonl", TASKS), *chat)
    checks.problems(tree)
    checks.unexpected(tree)
    assert loaded == [tmp_path / "model"]


def test_messages_that_the_format_does_not_take_are_named_by_file_and_line(tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    file = written(tmp_path / "tasks.jsonl", [*TASKS, {"messages": talk, "answer": "1"}])
    [problem] = checks.problems(recipe(file, "tasks.template=raw"))
    assert (
        f"tasks.jsonl, line {len(TASKS) + 1}: `messages` has 3 of them, which needs `tasks.template: chat`" in problem
    )


def test_a_trace_of_several_turns_is_told_before_anything_starts(tmp_path: Path) -> None:
    tiny.write(TinyModel(kind="tiny", hidden_size=32, heads=1, layers=1), tmp_path / "model", seed=0)
    traces = written(tmp_path / "traces.jsonl", [{"prompt": "1+1=", "response": "2<eos>user: and?"}])
    file = written(tmp_path / "tasks.jsonl", TASKS)
    tree = recipe(file, f"model={{kind: folder, path: {tmp_path / 'model'}}}", f"cold_start={{traces: {traces}}}")
    [problem] = checks.problems(tree)
    assert "traces.jsonl" in problem and "holds the end token <eos> before its end" in problem
