"""The fused kernels beside what `transformers` computes."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from learner import LearnerConfig
from learner.config import LoraSettings
from learner.model import fused
from learner.model.adapters import add_adapters
from learner.model.gradients import init_gradients
from learner.model.packing import Segment, pack
from learner.model.policy import Policy, build_policy
from learner.optimizer import build_optimizer

Gradients = dict[str, Tensor]
PACKED = pack(
    [
        Segment(np.array([1, 2, 3], np.int32), (np.array([4, 5, 6], np.int32), np.array([7, 8], np.int32)), (0, 1)),
        Segment(np.array([9, 3], np.int32), (np.array([1, 1, 2, 5], np.int32),), (2,)),
    ]
)


def run(policy: Policy) -> tuple[Tensor, Gradients]:
    """Logprobs of a batch, and the gradient of their sum by parameter."""
    policy.zero_grad()
    logprobs, _ = policy(PACKED)
    logprobs.sum().backward()  # type: ignore[no-untyped-call]
    return logprobs.detach(), {name: p.grad for name, p in policy.model.named_parameters() if p.grad is not None}


def assert_close(found: tuple[Tensor, Gradients], expected: tuple[Tensor, Gradients], rtol: float) -> None:
    torch.testing.assert_close(found[0], expected[0], rtol=rtol, atol=rtol)
    assert found[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(found[1][name], gradient, rtol=rtol, atol=rtol * scale, msg=name)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_logprobs_and_gradients_are_those_of_the_untouched_model(tiny_model: Path, checkpointing: bool) -> None:
    plain, ours = (
        build_policy(
            tiny_model,
            LearnerConfig(dtype="float32", fused_kernels=on, gradient_checkpointing=checkpointing),
            torch.device("cpu"),
        )
        for on in (False, True)
    )
    assert_close(run(ours), run(plain), rtol=1e-4)


def test_adapters_get_the_gradients_of_the_untouched_model(tiny_model: Path) -> None:
    both = []
    for on in (False, True):
        policy = build_policy(tiny_model, LearnerConfig(dtype="float32", fused_kernels=on), torch.device("cpu"))
        torch.manual_seed(0)
        add_adapters(policy.model, LoraSettings(rank=4), torch.device("cpu"))
        with torch.no_grad():
            for name, parameter in policy.model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.1)
        both.append(run(policy))
    assert any("down_proj" in name for name in both[1][1])
    assert_close(both[1], both[0], rtol=1e-4)


def test_the_backward_pass_keeps_no_second_copy_of_the_weights(tiny_model: Path) -> None:
    policy = build_policy(tiny_model, LearnerConfig(dtype="bfloat16"), torch.device("cpu"))
    weights = {p.data_ptr() for p in policy.model.parameters()}
    shapes = {p.shape for n, p in policy.model.named_parameters() if "proj" in n}
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        policy(PACKED)
    copies = [t for t in kept if t.shape in shapes and t.data_ptr() not in weights]
    assert any(t.data_ptr() in weights for t in kept)
    assert not copies


def fake_liger() -> SimpleNamespace:
    """The functions of Liger 0.8 that are called, in plain torch: its kernels need a GPU."""

    def liger_rms_norm(x: Tensor, w: Tensor, eps: float, in_place: bool) -> Tensor:
        assert not in_place, "the gradient that it would overwrite belongs to the residual stream too"
        return F.rms_norm(x, w.shape, w, eps)

    def liger_swiglu(a: Tensor, b: Tensor) -> Tensor:
        return F.silu(a) * b

    def liger_rope(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int) -> tuple[Tensor, Tensor]:
        cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)

        def turn(x: Tensor) -> Tensor:
            first, second = x.chunk(2, -1)
            return x * cos + torch.cat((-second, first), -1) * sin

        return turn(q), turn(k)

    return SimpleNamespace(liger_rms_norm=liger_rms_norm, liger_swiglu=liger_swiglu, liger_rope=liger_rope)


def test_liger_is_called_with_what_it_expects(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = LearnerConfig(dtype="float32")
    expected = run(build_policy(tiny_model, config, torch.device("cpu")))
    calls: list[str] = []

    def counted(name: str, function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            return function(*args, **kwargs)

        return call

    fake = SimpleNamespace(**{n: counted(n, f) for n, f in vars(fake_liger()).items()})
    monkeypatch.setattr(fused, "liger_for", lambda _: fake)
    assert_close(run(build_policy(tiny_model, config, torch.device("cpu"))), expected, rtol=1e-4)
    assert {"liger_rms_norm", "liger_swiglu", "liger_rope"} == set(calls)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_are_added_where_they_are(tiny_model: Path, checkpointing: bool) -> None:
    config = LearnerConfig(dtype="float32", gradient_checkpointing=checkpointing)
    policy = build_policy(tiny_model, config, torch.device("cpu"))
    expected = run(policy)[1]
    optimizer, _ = build_optimizer(policy.model.parameters(), config.optimizer)
    init_gradients(optimizer)
    before = {name: p.grad for name, p in policy.model.named_parameters()}
    assert set(before) == set(expected)
    for _ in range(2):
        policy(PACKED)[0].sum().backward()
    for name, p in policy.model.named_parameters():
        assert p.grad is before[name], name
        scale = float(expected[name].abs().max())
        torch.testing.assert_close(p.grad, 2 * expected[name], rtol=1e-4, atol=1e-4 * scale, msg=name)


def test_what_stands_for_padding_has_no_gradient() -> None:
    embedding = torch.nn.Embedding(7, 3, padding_idx=2)
    tokens = torch.tensor([[1, 2, 2, 5, 1]])
    embedding(tokens).square().sum().backward()
    expected = embedding.weight.grad.clone()
    fused.fuse(embedding)
    for start in (None, torch.zeros_like(expected)):
        embedding.weight.grad = start
        embedding(tokens).square().sum().backward()
        torch.testing.assert_close(embedding.weight.grad, expected)
