"""Prompts: what the model reads, word for word."""

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from actors.config.model import TinyModel
from actors.config.tasks import TasksConfig
from actors.errors import RecipeError
from actors.models import prepare
from actors.tasks import Renderer, Task

SUM = Task("k", (("user", "374+859="),), "exact", {"answer": "1233"})


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    config = TinyModel(kind="tiny", hidden_size=64, heads=2, intermediate_size=64, layers=1)
    return AutoTokenizer.from_pretrained(prepare(config, tmp_path_factory.mktemp("models"), 0))


def config(**fields: Any) -> TasksConfig:
    return TasksConfig.model_validate({"sources": [{"source": "addition"}], **fields})


def test_raw_is_the_bare_prompt(tokenizer: Any) -> None:
    renderer = Renderer(config(template="raw"), tokenizer)
    assert renderer.text(SUM) == "374+859="
    assert tokenizer.convert_ids_to_tokens(renderer.render(SUM)) == list("374+859=")


def test_r1_zero_is_the_papers_conversation_and_ends_in_the_assistants_turn(tokenizer: Any) -> None:
    text = Renderer(config(template="r1_zero"), tokenizer).text(SUM)
    assert text.startswith("A conversation between User and Assistant. The user asks a question,")
    assert "<think> reasoning process here </think> <answer> answer here </answer>" in text
    assert text.endswith(" User: 374+859=. Assistant:")
    question = Task("k", (("user", "How many {braces}?\n"),), "exact", {"answer": "1"})
    assert (
        Renderer(config(template="r1_zero"), tokenizer).text(question).endswith(" User: How many {braces}? Assistant:")
    )


def test_chat_has_the_system_message_and_the_shots_before_the_task(tokenizer: Any) -> None:
    shots = [{"prompt": "1+1=", "response": "2"}, {"prompt": "2+5=", "response": "7"}]
    renderer = Renderer(config(template="chat", system="Add.", shots=shots), tokenizer)
    assert renderer.text(SUM) == (
        "system: Add.\nuser: 1+1=\nassistant: 2<eos>\nuser: 2+5=\nassistant: 7<eos>\nuser: 374+859=\nassistant: "
    )
    assert renderer.render(SUM).count(tokenizer.eos_token_id) == 2


def test_a_tasks_own_system_message_replaces_the_recipes(tokenizer: Any) -> None:
    task = Task("k", (("system", "Own."), ("user", "Hi")), "exact", {"answer": "x"})
    assert Renderer(config(system="Add."), tokenizer).text(task) == "system: Own.\nuser: Hi\nassistant: "


def test_chat_renders_the_ids_that_transformers_would(tokenizer: Any) -> None:
    renderer = Renderer(config(system="Add."), tokenizer)
    talk = [{"role": "system", "content": "Add."}, {"role": "user", "content": "374+859="}]
    expected = tokenizer.apply_chat_template(talk, add_generation_prompt=True, return_dict=False)
    assert renderer.render(SUM) == expected


def test_templates_that_do_not_fit_are_refused(tokenizer: Any, tmp_path: Path) -> None:
    talk = Task("k", (("user", "a"), ("assistant", "b"), ("user", "c")), "exact", {"answer": "x"})
    with pytest.raises(RecipeError, match=r"template is r1_zero, .* 3 messages, the last one 'c'; use `"):
        Renderer(config(template="r1_zero"), tokenizer).render(talk)
    with pytest.raises(ValueError, match="need `template: chat`; the template is raw"):
        config(template="raw", system="Add.")
    tokenizer.save_pretrained(tmp_path)
    bare = AutoTokenizer.from_pretrained(tmp_path)
    bare.chat_template = None
    with pytest.raises(RecipeError, match="no chat template; use `raw` or `r1_zero`"):
        Renderer(config(), bare)
