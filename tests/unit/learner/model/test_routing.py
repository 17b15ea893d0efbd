"""Router replay: tokens go to the experts that are named, with the scores that the model's own formula gives them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from learner import BatchError, Group, LearnerConfig, ModelError, ObjectiveConfig, OptimizerConfig, Trainer
from learner.config import LoraSettings
from learner.model.experts import is_router
from learner.model.packing import Packed, Segment, pack, split_segments
from learner.model.policy import Policy, build_policy
from tests.unit.learner.conftest import VOCABULARY, GroupFactory
from tests.unit.learner.mixtures import EXPERTS, LAYERS, MODELS, SIZES, TOP_K, random_experts, routed, written

CONFIG = LearnerConfig(
    dtype="float32", device="cpu", threads=1, router_replay=True, optimizer=OptimizerConfig(learning_rate=1e-3)
)
CPU = torch.device("cpu")
#: The scores of some experts by the models' papers, from all logits of a token.
FORMULAS: dict[str, Callable[[Sequence[float], Sequence[int]], list[float]]] = {
    "qwen3": lambda s, chosen: _divided([math.exp(s[i]) for i in chosen]),
    "qwen3, undivided": lambda s, chosen: [math.exp(s[i]) / sum(map(math.exp, s)) for i in chosen],
    "mixtral": lambda s, chosen: _divided([math.exp(s[i]) for i in chosen]),
    "deepseek": lambda s, chosen: [2.5 * x for x in _divided([1 / (1 + math.exp(-s[i])) for i in chosen])],
}


def _divided(values: list[float]) -> list[float]:
    return [value / sum(values) for value in values]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: written(tmp_path_factory.mktemp("experts"), name) for name in MODELS}


def _packed(experts: np.ndarray | None = None) -> Packed:
    random = np.random.default_rng(0)
    prompt, *completions = (random.integers(0, VOCABULARY, n).astype(np.int32) for n in (5, 9, 6))
    packed = pack([Segment(prompt, tuple(completions), (0, 1))])
    return packed if experts is None else replace(packed, routed_experts=torch.from_numpy(experts.astype(np.int16)))


class _Watched:
    """What the routers of a policy give its layers in a pass: logits, scores and choice, by layer."""

    def __init__(self, policy: Policy) -> None:
        self.seen: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
        for index, layer in enumerate(policy.model.base_model.layers):
            for router in filter(is_router, layer.modules()):
                router.register_forward_hook(lambda _, __, output, index=index: self.seen.update({index: output}))

    def choice(self, tokens: int) -> np.ndarray:
        """int16 [N, L K]; of dense layers, of which engines say nothing, zeros."""
        found = np.zeros((tokens, LAYERS, TOP_K), np.int16)
        for index, (_, _, chosen) in self.seen.items():
            found[:, index] = chosen.numpy()
        return found.reshape(tokens, -1)


def _gradients(policy: Policy, packed: Packed) -> tuple[Tensor, dict[str, Tensor]]:
    """Log-probabilities, and the gradient of a sum of them by parameter."""
    policy.zero_grad()
    logp, _ = policy(packed)
    (logp * torch.linspace(-1, 1, len(logp))).sum().backward()
    return logp.detach(), {n: p.grad.clone() for n, p in policy.model.named_parameters() if p.grad is not None}


def _same(a: tuple[Tensor, dict[str, Tensor]], b: tuple[Tensor, dict[str, Tensor]]) -> bool:
    return (
        torch.equal(a[0], b[0]) and a[1].keys() == b[1].keys() and all(torch.equal(g, b[1][n]) for n, g in a[1].items())
    )


@pytest.mark.parametrize("name", MODELS)
def test_scores_of_a_choice_are_those_of_the_models_formula(folders: dict[str, Path], name: str) -> None:
    policy = build_policy(folders[name], CONFIG, CPU)
    watched, experts = _Watched(policy), random_experts(len(_packed().tokens))
    with torch.no_grad():
        policy(_packed(experts))
    assert sorted(watched.seen) == ([1, 2] if name == "deepseek" else [0, 1, 2])
    for layer, (logits, scores, chosen) in watched.seen.items():
        assert chosen.tolist() == experts.reshape(-1, LAYERS, TOP_K)[:, layer].tolist()
        expected = [FORMULAS[name](s, own) for s, own in zip(logits.tolist(), chosen.tolist(), strict=True)]
        np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_the_models_own_choice_replayed_changes_no_bit(folders: dict[str, Path], name: str) -> None:
    policy = build_policy(folders[name], CONFIG, CPU)
    watched = _Watched(policy)
    own = _gradients(policy, _packed())
    replayed = _gradients(policy, _packed(watched.choice(len(_packed().tokens))))
    assert _same(own, replayed)
    plain = build_policy(folders[name], CONFIG.model_copy(update={"router_replay": False}), CPU)
    assert _same(own, _gradients(plain, _packed()))


@pytest.mark.parametrize("name", MODELS)
def test_another_choice_gives_other_logprobs_and_gradients_to_it_alone(folders: dict[str, Path], name: str) -> None:
    policy = build_policy(folders[name], CONFIG, CPU)
    own, _ = _gradients(policy, _packed())
    experts = np.tile(np.array([1, 4], np.int16), (len(_packed().tokens), LAYERS))
    logp, gradients = _gradients(policy, _packed(experts))
    assert (logp - own).abs().max() > 1e-3
    routers = [g for key, g in gradients.items() if key.endswith(("gate.weight", "router.weight"))]
    fused = [g for key, g in gradients.items() if ".experts." in key and g.ndim == 3]
    assert routers and fused
    assert all(g[[1, 4]].abs().sum() > 0 for g in routers)
    for g in fused:
        assert (g[[1, 4]].abs().amax(dim=(1, 2)) > 0).all()
        assert g[[0, 2, 3, 5]].abs().max() == 0


@pytest.mark.parametrize("name", MODELS)
def test_a_token_whose_routing_is_unknown_goes_where_its_router_sends_it(folders: dict[str, Path], name: str) -> None:
    policy = build_policy(folders[name], CONFIG, CPU)
    watched, given = _Watched(policy), random_experts(len(_packed().tokens)).astype(np.int16)
    unknown = np.arange(len(given)) % 2 == 0
    given[unknown] = -1
    with torch.no_grad():
        policy(_packed(given))
    for layer, (logits, _, chosen) in watched.seen.items():
        wanted = given.reshape(-1, LAYERS, TOP_K)[:, layer]
        assert chosen[~unknown].tolist() == wanted[~unknown].tolist()
        if name != "deepseek":  # whose choice has biases besides
            own = logits[unknown].topk(TOP_K).indices
            assert chosen[unknown].sort().values.tolist() == own.sort().values.tolist()
    with torch.no_grad():
        nothing = policy(_packed(np.full_like(given, -1)))
        assert all(torch.equal(a, b) for a, b in zip(nothing, policy(_packed()), strict=True))


def test_what_is_recomputed_is_replayed_again(folders: dict[str, Path]) -> None:
    """Also where the policy reads something else in between, as it does where it is its own reference."""
    packed = _packed(random_experts(len(_packed().tokens)))
    expected = _gradients(build_policy(folders["deepseek"], CONFIG, CPU), packed)
    policy = build_policy(folders["deepseek"], CONFIG.model_copy(update={"gradient_checkpointing": True}), CPU)
    logp, _ = policy(packed)
    with torch.no_grad():
        policy(packed.unrouted())
    (logp * torch.linspace(-1, 1, len(logp))).sum().backward()
    found = {n: p.grad for n, p in policy.model.named_parameters() if p.grad is not None}
    assert _same(expected, (logp.detach(), found))


def test_each_token_keeps_its_experts_through_packing() -> None:
    """Rows number their tokens: by prompt, completion and place."""

    def rows(start: int, count: int) -> np.ndarray:
        return np.arange(start, start + count, dtype=np.uint8)[:, None].repeat(4, 1)

    tokens = [np.zeros(n, np.int32) for n in (3, 4, 1, 6)]
    routed = Segment(tokens[0], tuple(tokens[1:]), (5, 6, 7), (), (rows(10, 3), rows(20, 3), None, rows(40, 5)))
    other = Segment(tokens[0], (tokens[1],), (8,))
    packed = pack([routed, other])
    assert packed.routed_experts is not None and packed.routed_experts.shape == (len(packed.tokens), 4)
    assert packed.routed_experts[:, 0].tolist() == [10, 11, 12, 20, 21, 22, 40, 41, 42, 43, 44] + [-1] * 6
    assert packed.replayed == 11
    assert pack([other]).routed_experts is None and pack([other]).replayed == 0
    parts = {part.indices: pack([part]).routed_experts for part in split_segments([routed], 7)}
    assert {indices: found[:, 3].tolist() for indices, found in parts.items() if found is not None} == {
        (6, 5): [10, 11, 12, 20, 21, 22],
        (7,): [10, 11, 12, 40, 41, 42, 43, 44],
    }


# ---------------------------------------------------------------- in the trainer


def _step(folder: Path, groups: Sequence[Group], **changes: Any) -> tuple[dict[str, float], dict[str, Tensor]]:
    trainer = Trainer(CONFIG.model_copy(update=changes), folder, seed=0)
    statistics = trainer.train_step(groups)
    return statistics, dict(trainer.snapshot())


def _equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, b[name]) for name, tensor in a.items())


def test_a_step_replays_what_it_knows_and_says_how_much(folders: dict[str, Path], make_groups: GroupFactory) -> None:
    groups = make_groups()
    plain, weights = _step(folders["qwen3"], groups, router_replay=False)
    assert plain["replayed_fraction"] == 0
    nothing, unchanged = _step(folders["qwen3"], groups)
    assert nothing["replayed_fraction"] == 0 and _equal(weights, unchanged)
    everything, replayed = _step(folders["qwen3"], routed(groups))
    assert everything["replayed_fraction"] == 1 and not _equal(weights, replayed)
    assert everything["entropy"] != plain["entropy"]
    ignored, same = _step(folders["qwen3"], routed(groups), router_replay=False)
    assert ignored["replayed_fraction"] == 0 and _equal(weights, same)
    half, mixed = _step(folders["qwen3"], [*routed(groups[:2]), *groups[2:]])
    assert 0 < half["replayed_fraction"] < 1
    assert not _equal(mixed, weights) and not _equal(mixed, replayed)


@pytest.mark.parametrize(
    "changes", [{}, {"lora": LoraSettings(rank=4, targets=["q_proj", "o_proj"])}], ids=["copy", "adapters"]
)
def test_a_reference_routes_by_itself(
    folders: dict[str, Path], make_groups: GroupFactory, changes: dict[str, Any]
) -> None:
    """So that what the policy was at first is another distribution than itself replayed."""
    groups = make_groups()
    objective = ObjectiveConfig(kl="k3", kl_coefficient=0.05)
    plain, _ = _step(folders["qwen3"], groups, objective=objective, **changes)
    replayed, _ = _step(folders["qwen3"], routed(groups), objective=objective, **changes)
    assert plain["kl"] == pytest.approx(0, abs=1e-6)
    assert replayed["kl"] > 1e-3


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((5, LAYERS * TOP_K + 1), np.uint8),
        np.zeros((6, LAYERS * TOP_K), np.uint8),
        np.zeros((5, LAYERS, TOP_K), np.uint8),
        np.zeros((5, LAYERS * TOP_K), np.int32),
        np.full((5, LAYERS * TOP_K), EXPERTS, np.uint8),
    ],
    ids=["width", "tokens", "dimensions", "dtype", "expert"],
)
def test_experts_of_another_model_are_refused(
    folders: dict[str, Path], make_groups: GroupFactory, wrong: np.ndarray
) -> None:
    trainer = Trainer(CONFIG, folders["qwen3"], seed=0)
    (group,) = routed(make_groups(count=1, size=2, lengths=(6, 6)))
    (first, second) = group.completions
    bad = [replace(group, completions=(first, replace(second, routed_experts=wrong)))]
    with pytest.raises(BatchError, match=r"group 0: routed_experts are .* the model routes"):
        trainer.train_step(bad)
    with pytest.raises(BatchError, match="group 0: routed_experts are"):
        trainer.train_step([replace(group, routed_experts=np.zeros((len(group.prompt), 1), np.uint8))])
    trainer.train_step([group])


def test_a_model_without_experts_is_refused(tiny_model: Path) -> None:
    with pytest.raises(ModelError, match=r"router_replay is for layers with experts .* LlamaForCausalLM are not"):
        Trainer(CONFIG, tiny_model, seed=0)


def test_a_router_whose_formula_is_not_known_is_refused(tmp_path: Path) -> None:
    config = AutoConfig.for_model("phimoe", **SIZES, num_local_experts=EXPERTS)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="router_replay does not know how PhimoeTopKRouter scores"):
        Trainer(CONFIG, tmp_path, seed=0)
