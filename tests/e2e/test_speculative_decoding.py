"""A real vLLM engine that guesses tokens by n-grams: what it samples, its log-probabilities, and their versions."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from prometheus_client import REGISTRY
from transformers import AutoTokenizer

from actors.config.model import TinyModel
from actors.config.roles import GeneratorsConfig, SamplingConfig, VllmConfig
from actors.engines.protocol import SampledCompletion
from actors.engines.tokens import end_tokens
from actors.engines.vllm import VllmEngine
from actors.events import WeightSync
from actors.models import prepare
from tests.e2e.updates import generated_across, policies, published, publisher_for, subscribed

pytestmark = pytest.mark.e2e

GUESSES = {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_min": 1, "prompt_lookup_max": 3}
#: Sharper than the model, and from a nucleus: what is reported has to be of this, and not of the model alone.
TEMPERATURE, TOP_P = 0.7, 0.9
LONG = SamplingConfig(temperature=TEMPERATURE, top_p=TOP_P, max_tokens=100)
SHORT = SamplingConfig(temperature=TEMPERATURE, top_p=TOP_P, max_tokens=3)
#: Requests of so many completions, whose first tokens are counted.
REQUESTS, SAMPLES = 64, 64


def accepted() -> float:
    """Guesses that engines of this process have accepted."""
    name = "vllm:spec_decode_num_accepted_tokens_total"
    return sum(s.value for metric in REGISTRY.collect() for s in metric.samples if s.name == name)


@torch.no_grad()
def easily_guessed(policy: Any) -> list[int]:
    """Of many prompts that repeat four tokens, the one which the policy is likeliest to go on with for two more."""
    cycle = torch.randint(4, 128, (8192, 4), generator=torch.Generator().manual_seed(0))
    prompts = torch.cat([cycle, cycle, cycle[:, :1]], 1)
    p = sampled_from(policy(torch.cat([prompts, cycle[:, 1:2]], 1), logits_to_keep=2).logits).exp()
    followed = p.gather(2, cycle[:, 1:3, None])[..., 0].prod(1)
    return [int(token) for token in prompts[followed.argmax()]]


async def generate_across(
    publisher: Any, generating: VllmEngine, policy: Any, prompt: list[int]
) -> list[SampledCompletion]:
    """Completions that are under way while version 1 arrives."""
    before = accepted()
    update = published(publisher, 1, policy)
    return await generated_across(update, lambda: generating.generate(prompt, 4, LONG), lambda: accepted() > before)


async def scenario(model: Path, guesses: dict[str, Any]) -> dict[str, Any]:
    tokenizer = AutoTokenizer.from_pretrained(model)
    v = VllmConfig(max_model_len=128, max_num_seqs=64, engine_args={"speculative_config": guesses})
    e = VllmEngine(GeneratorsConfig(dtype="float32", vllm=v), model, tokenizer, seed=1)
    versions = policies(model, 2)
    prompt = easily_guessed(versions[1])
    seen: dict[str, Any] = {"ends": end_tokens(model, tokenizer), "policies": versions, "prompt": prompt}
    await e.start()
    syncs: list[WeightSync] = []
    publisher = publisher_for(2**18, syncs.append)
    try:
        async with subscribed(publisher, [e]):
            await published(publisher, 0, versions[0])
            seen["across"] = await generate_across(publisher, e, versions[1], prompt)
            before = accepted()
            first = await asyncio.gather(*(e.generate(prompt, SAMPLES, SHORT) for _ in range(REQUESTS)))
            seen["accepted"] = accepted() - before
    finally:
        await e.close()
    return seen | {"first": [d for group in first for d in group]}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    model = prepare(TinyModel(kind="tiny"), tmp_path_factory.mktemp("models"), 0)
    return asyncio.run(scenario(model, GUESSES))


def sampled_from(logits: torch.Tensor) -> torch.Tensor:
    """Log-probabilities [..., V] of what is sampled: the fewest likeliest tokens that have TOP_P together."""
    ordered, order = (logits / TEMPERATURE).log_softmax(-1).sort(-1, descending=True)
    beyond = ordered.exp().cumsum(-1) - ordered.exp() >= TOP_P
    kept = ordered.masked_fill(beyond, -torch.inf).log_softmax(-1)
    return torch.empty_like(kept).scatter(-1, order, kept)


@torch.no_grad()
def expected(seen: dict[str, Any], d: SampledCompletion, boundary: int) -> np.ndarray:
    """Log-probabilities of a completion whose tokens from `boundary` on are sampled by version 1."""
    versions, prompt = seen["policies"], seen["prompt"]
    ids = torch.tensor([prompt + d.tokens.tolist()])
    split = len(prompt) + boundary - 1  # a token is sampled from the logits at the position before it
    first = versions[0](ids[:, :split], use_cache=True)
    second = versions[1](ids[:, split:-1], past_key_values=first.past_key_values)
    logits = torch.cat([first.logits[:, len(prompt) - 1 :], second.logits], 1)
    return sampled_from(logits)[0].gather(1, ids[0, len(prompt) :, None])[:, 0].numpy()


@torch.no_grad()
def probabilities(seen: dict[str, Any]) -> dict[tuple[int, ...], float]:
    """Of the first three tokens of a completion by version 1, or of fewer that end it."""
    policy = seen["policies"][1]
    alive: dict[tuple[int, ...], float] = {(): 1.0}
    ended: dict[tuple[int, ...], float] = {}
    for _ in range(SHORT.max_tokens):
        following: dict[tuple[int, ...], float] = {}
        ids = torch.tensor([seen["prompt"] + list(begun) for begun in alive])
        for rows, begun in zip(ids.split(4096), _split(list(alive), 4096), strict=True):
            p = sampled_from(policy(rows, logits_to_keep=1).logits[:, -1]).exp()
            for row, token in p.nonzero().tolist():
                whole = (*begun[row], token)
                (ended if token in seen["ends"] else following)[whole] = alive[begun[row]] * float(p[row, token])
        alive = following
    return alive | ended


def _split(items: list[Any], size: int) -> list[list[Any]]:
    return [items[i : i + size] for i in range(0, len(items), size)]


def deviation(counts: Counter[Any], law: dict[Any, float]) -> float:
    """Pearson's chi-square in standard deviations above its mean; what is expected less than 10 times counts as one."""
    total = counts.total()
    rare = [key for key, p in law.items() if p * total < 10]
    cells = [(counts[key], p * total) for key, p in law.items() if p * total >= 10]
    cells.append((sum(counts[key] for key in rare), sum(law[key] for key in rare) * total))
    assert sum(observed for observed, _ in cells) == total, "a token was sampled that has no probability"
    chi = sum((observed - mean) ** 2 / mean for observed, mean in cells if mean)
    freedom = len(cells) - 1
    assert freedom > 20
    return float((chi - freedom) / np.sqrt(2 * freedom))


def test_guesses_are_accepted(seen: dict[str, Any]) -> None:
    assert seen["accepted"] > 100


def test_log_probabilities_are_those_of_what_was_sampled_and_versions_change_at_the_right_token(
    seen: dict[str, Any],
) -> None:
    """Over the cache that the older version left; a boundary that is off by one is visibly wrong."""
    spanning = [d for d in seen["across"] if len(d.spans) == 2 and min(n for _, n in d.spans) > 2]
    assert len(spanning) >= 4
    for d in spanning:
        assert [version for version, _ in d.spans] == [0, 1]
        boundary = d.spans[0][1]
        error = {s: np.abs(expected(seen, d, boundary + s) - d.logprobs).max() for s in (-1, 0, 1)}
        assert error[0] < 1e-3
        assert min(error[-1], error[1]) > 10 * error[0]


def test_every_token_has_a_version_and_a_log_probability(seen: dict[str, Any]) -> None:
    for d in seen["across"] + seen["first"]:
        assert sum(n for _, n in d.spans) == len(d.tokens) == len(d.logprobs)


def test_what_is_sampled_is_distributed_as_without_guesses(seen: dict[str, Any]) -> None:
    """Exact probabilities of the first three tokens, of which the second and third may have been guessed."""
    law = probabilities(seen)
    assert sum(law.values()) == pytest.approx(1, abs=1e-3)
    found = [tuple(d.tokens.tolist()) for d in seen["first"]]
    for cut in (slice(0, 2), slice(1, 3)):
        marginal: dict[tuple[int, ...], float] = {}
        for tokens, p in law.items():
            marginal[tokens[cut]] = marginal.get(tokens[cut], 0.0) + p
        assert deviation(Counter(tokens[cut] for tokens in found), marginal) < 6
    guessed = tuple(seen["prompt"][1:3])
    p = sum(share for tokens, share in law.items() if tokens[:2] == guessed)
    count, total = sum(tokens[:2] == guessed for tokens in found), len(found)
    assert abs(count - p * total) < 5 * np.sqrt(total * p * (1 - p)), "a guess comes too often, or too seldom"


def test_log_probabilities_of_the_first_tokens_are_those_of_the_distribution(seen: dict[str, Any]) -> None:
    law = probabilities(seen)
    for d in seen["first"]:
        assert float(d.logprobs.sum()) == pytest.approx(np.log(law[tuple(d.tokens.tolist())]), abs=1e-3)
