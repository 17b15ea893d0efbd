"""Chunked log-probabilities and entropies: exact values and gradients, without full logits."""

from __future__ import annotations

import pytest
import torch

from learner.model import logprobs as logprobs_module
from learner.model.logprobs import token_logprobs


def _inputs(count: int = 23, width: int = 8, vocabulary: int = 31) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(count, width, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(vocabulary, width, generator=generator, dtype=torch.float64, requires_grad=True)
    return hidden, weight, torch.randint(0, vocabulary, (count,), generator=generator)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("chunk", [1, 7, 23, 100])
def test_values_and_gradients(chunk: int, temperature: float) -> None:
    hidden, weight, targets = _inputs()
    mix = torch.linspace(-1, 1, 23, dtype=torch.float64)
    logprobs, entropy = token_logprobs(hidden, weight, targets, temperature, chunk)
    found = torch.autograd.grad((mix * logprobs + mix.flip(0) * entropy).sum(), (hidden, weight))
    full = (hidden @ weight.T / temperature).log_softmax(-1)
    expected_logprobs = full.gather(1, targets[:, None])[:, 0]
    expected_entropy = -(full.exp() * full).sum(-1)
    expected = torch.autograd.grad((mix * expected_logprobs + mix.flip(0) * expected_entropy).sum(), (hidden, weight))
    torch.testing.assert_close(logprobs, expected_logprobs)
    torch.testing.assert_close(entropy, expected_entropy)
    torch.testing.assert_close(found, expected)


def test_no_tensor_of_tokens_by_vocabulary_is_allocated() -> None:
    tokens, vocabulary, chunk = 512, 4096, 32
    hidden = torch.randn(tokens, 8, requires_grad=True)
    weight = torch.randn(vocabulary, 8, requires_grad=True)
    with torch.profiler.profile(profile_memory=True) as profile:
        logprobs, _ = token_logprobs(hidden, weight, torch.zeros(tokens, dtype=torch.int64), 1.0, chunk)
        logprobs.sum().backward()
    largest = max(event.self_cpu_memory_usage for event in profile.events())
    assert 0 < largest <= chunk * vocabulary * 4


@pytest.mark.parametrize("block", [1, 10, 31])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_blocks_of_the_vocabulary_change_nothing(
    block: int, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    mix = torch.linspace(-1, 1, 23, dtype=torch.float64)
    found = []
    for size in (1000, block):
        monkeypatch.setattr(logprobs_module, "BLOCK", size)
        hidden, weight, targets = _inputs()
        logprobs, entropy = token_logprobs(30 * hidden, weight, targets, temperature, chunk=7)
        gradients = torch.autograd.grad((mix * logprobs + mix.flip(0) * entropy).sum(), (hidden, weight))
        found.append((logprobs, entropy, *gradients))
    torch.testing.assert_close(found[1], found[0])


def test_the_gradient_is_added_to_the_weights_where_there_is_one() -> None:
    hidden, weight, targets = _inputs()
    (expected,) = torch.autograd.grad(token_logprobs(hidden, weight, targets, chunk=7)[0].sum(), (weight,))
    weight.grad = before = torch.full_like(weight, 2.0)
    token_logprobs(hidden, weight, targets, chunk=7)[0].sum().backward()
    assert weight.grad is before
    torch.testing.assert_close(before - 2.0, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_of_a_large_vocabulary_only_a_block_is_allocated(dtype: torch.dtype) -> None:
    tokens, vocabulary, chunk = 64, 4 * logprobs_module.BLOCK, 32
    hidden = torch.randn(tokens, 8, dtype=dtype, requires_grad=True)
    weight = torch.randn(vocabulary, 8, requires_grad=True)
    weight.grad = torch.zeros_like(weight)
    with torch.profiler.profile(profile_memory=True) as profile:
        logprobs, _ = token_logprobs(hidden, weight, torch.zeros(tokens, dtype=torch.int64), 1.0, chunk)
        logprobs.sum().backward()
    largest = max(event.self_cpu_memory_usage for event in profile.events())
    assert 0 < largest <= chunk * logprobs_module.BLOCK * 4
    assert weight.grad.abs().sum() > 0
