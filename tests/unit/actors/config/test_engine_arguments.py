"""Arguments of vLLM that would take away what training rests on are refused before anything starts."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from actors.config.checks import problems
from actors.config.engine_arguments import FIXED, KEYS
from actors.config.loading import load

QUICKSTART = Path(__file__).parents[4] / "recipes" / "quickstart.yaml"


def found(*arguments: str) -> list[str]:
    return problems(load(QUICKSTART, [f"generators.vllm.engine_args={{{', '.join(arguments)}}}"]))


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("tensor_parallel_size: 2", "tensor_parallel_size: has a key of its own; set generators.vllm.tensor_parallel"),
        ("data_parallel_size: 2", "data_parallel_size: .* raise generators.count"),
        ("data_parallel_size_local: 2", "data_parallel_size_local: .* raise generators.count"),
        ("pipeline_parallel_size: 2", "pipeline_parallel_size: .* raise generators.vllm.tensor_parallel_size"),
        ("spec_method: ngram", "spec_method: is another name for a part of speculative_config"),
        ("logprobs_mode: raw_logprobs", "logprobs_mode: training needs the log-probabilities"),
    ],
)
def test_what_training_rests_on_is_not_left_to_an_argument(argument: str, said: str) -> None:
    (only,) = found(argument, "block_size: 32")
    assert only.startswith("generators.vllm.engine_args.")
    assert re.search(said, only)


def test_other_arguments_are_left_alone() -> None:
    assert not found("block_size: 32", "max_model_len: 128", "enable_chunked_prefill: false")


def test_vllm_has_these_arguments() -> None:
    from vllm.engine.arg_utils import AsyncEngineArgs

    known = {field.name for field in fields(AsyncEngineArgs)}
    assert KEYS.keys() <= known
    for name in FIXED:
        assert any(each == name or (name.endswith("_") and each.startswith(name)) for each in known), name
