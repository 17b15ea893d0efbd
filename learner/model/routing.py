"""Router replay (R3: Ma et al. 2025, arXiv 2510.11370): the learner's tokens go to the experts that the engine chose.

A router's logits s are computed as ever, and only the choice I of a token's K experts is the engine's:

    g_i = phi(s)_i I_i / sum_j phi(s)_j I_j                             (phi: softmax, or sigmoid as DeepSeek-V3's)

so that gradients reach the router through s. Some models do not divide by the sum, or multiply by a factor: which, is
read off the scores that their router gives its own choice. Biases that balance the load without a loss (DeepSeek-V3's
`e_score_correction_bias`) act on the choice alone; they are no parameters, and stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from learner.batch import RoutingShape
from learner.errors import ModelError
from learner.model.experts import is_router
from learner.model.packing import UNKNOWN

#: Largest relative difference of a router's own scores from what is computed here. A wrong formula differs by far more.
TOLERANCE = 1e-3
#: Tokens by which a router's formula is told from others.
PROBES = 64

SCORES: dict[str, Callable[[Tensor], Tensor]] = {"softmax": lambda s: s.softmax(-1), "sigmoid": Tensor.sigmoid}


@dataclass(frozen=True, slots=True)
class RouterScoring:
    """How a router's scores follow from its logits: `factor` times phi, divided by the sum over the chosen or not."""

    score: str
    divided: bool
    factor: float

    def __call__(self, logits: Tensor, chosen: Tensor) -> Tensor:
        """Scores [N, K], float32, of the experts `chosen` int64 [N, K], from logits [N, E]."""
        scores = SCORES[self.score](logits.float()).gather(-1, chosen)
        return self.factor * (scores / scores.sum(-1, keepdim=True) if self.divided else scores)


def replay_routing(model: Any) -> None:
    """Let a decoder of `transformers` take `routed_experts` in its forward pass, as `packing.Packed` has them.

    They are among the arguments of each layer, so that one which is recomputed in the backward pass has them again.

    Raises:
        ModelError: it has no experts, or routers that are not known.
    """
    top_k, scorings = routing_shape(model).top_k, {}
    for index, (layer, routers) in enumerate(_routers(model)):
        for router in routers:
            if (kind := type(router)) not in scorings:
                scorings[kind] = _scoring_of(kind, model.config)
            columns = slice(index * top_k, (index + 1) * top_k)
            layer.register_forward_pre_hook(partial(_hand_over, router, columns), with_kwargs=True)
            router.register_forward_hook(partial(_replay, scorings[kind]))


def routing_shape(model: Any) -> RoutingShape:
    """What the routing of a model's tokens looks like.

    Raises:
        ModelError: a layer has two routers, no layer has one, or they choose of different numbers of experts.
    """
    routers = [own for _, own in _routers(model)]
    sizes = {(router.top_k, router.num_experts) for own in routers for router in own}
    if len(sizes) != 1 or max(map(len, routers)) > 1:
        raise ModelError(
            "learner.router_replay is for layers with experts that are all routed alike, and those of "
            f"{type(model).__name__} are not; leave it out"
        )
    return RoutingShape(len(routers), *sizes.pop())


def _routers(model: Any) -> list[tuple[nn.Module, list[Any]]]:
    """Every layer with its routers."""
    layers = getattr(model.base_model, "layers", ())
    return [(layer, [module for module in layer.modules() if is_router(module)]) for layer in layers]


def _hand_over(router: Any, columns: slice, _layer: nn.Module, _arguments: Any, options: dict[str, Any]) -> None:
    """Before a layer: its part of the routing goes to its router."""
    routed: Tensor | None = options.get("routed_experts")
    router.replayed = None if routed is None else routed[:, columns]


def _replay(scoring: RouterScoring, router: Any, _arguments: Any, output: tuple[Tensor, Tensor, Tensor]) -> Any:
    """A router's logits, scores and choice, with another choice and its scores; None leaves them."""
    if router.replayed is None:
        return None
    logits, scores, chosen = output
    chosen = torch.where(router.replayed == UNKNOWN, chosen, router.replayed.to(chosen.dtype))
    return logits, scoring(logits, chosen).to(scores.dtype), chosen


@torch.no_grad()
def _scoring_of(kind: type[Any], config: Any) -> RouterScoring:
    """What gives a kind of router its own scores at its own choice.

    Found with a router of random weights, since those of a sharded model are not here yet.

    Raises:
        ModelError: nothing that is known does.
    """
    try:
        with torch.device("cpu"), torch.random.fork_rng(devices=()):
            torch.manual_seed(0)
            router = kind(config)
            logits, scores, chosen = router(torch.randn(PROBES, router.weight.normal_().shape[-1]))
        for name in SCORES:
            for divided in (True, False):
                ratio = scores / RouterScoring(name, divided, 1.0)(logits, chosen)
                # No configuration has more than four digits, and so rounded the factor is its own to the bit.
                factor = round(float(ratio.mean()), 4)
                if float((ratio / factor - 1).abs().max()) < TOLERANCE:
                    return RouterScoring(name, divided, factor)
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"learner.router_replay cannot read {kind.__name__} ({error}); leave it out") from error
    raise ModelError(f"learner.router_replay does not know how {kind.__name__} scores; leave it out")
