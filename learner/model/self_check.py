"""A model's own forward pass against the packed one, on a few tokens, before anything is trained.

The own pass reads one sequence at a time, with the attention that the model's authors wrote. The packed pass must agree
with it, and what it says of a completion must not depend on the completions beside it. Both are compared in float32,
where two right passes differ by rounding alone; a wrong formula differs by far more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from learner.errors import ModelError
from learner.model import attention
from learner.model.packing import Segment, pack

#: Largest difference of the packed pass from the own one, in nats.
TOLERANCE = 1e-3
#: Largest difference of the packed pass from itself beside other completions: the same products in the same shapes.
LEAK_TOLERANCE = 2e-5

OwnPass = Callable[[Tensor, int], Tensor]
PackedPass = Callable[[Sequence[Segment]], Sequence[Tensor]]


class SelfCheck:
    """What a model says by itself of a few completions, and the switch to packed attention.

    Args:
        model: with its own attention; afterwards with packed attention.
        path: names it in errors.
        own: what the model says of a completion, [T] or less, given token ids int64 [1, N] and the prompt's length.

    Raises:
        ModelError: where packed attention cannot be switched on, or layers ask for more than it does.
    """

    def __init__(self, model: Any, path: str | Path, own: OwnPass) -> None:
        self._model = model
        self._name = f"{path}: {type(model).__name__} cannot be trained"
        self._segments = _segments(model.config.vocab_size)
        model.eval()
        with torch.no_grad():
            self._expected = [
                self._guarded(own, ids.to(model.device), prompt) for ids, prompt in _sequences(self._segments)
            ]
            self._switch(attention.PROBING_NAME)
            self._guarded(self._look_far)
        self._switch(attention.NAME)

    def require(self, packed: PackedPass) -> None:
        """Compare the packed pass, which gives a tensor for every completion of its segments.

        Raises:
            ModelError: where it fails, or differs.
        """
        with torch.no_grad():
            found = self._guarded(packed, self._segments)
            difference = _difference(found, self._expected)
            if not difference < TOLERANCE:
                raise ModelError(
                    f"{self._name}: the outcome of packed sequences differs by {difference:.3g} from its own, one "
                    f"sequence at a time{_why(self._model)}; train another model, or try fused_kernels: false"
                )
            for changed in (0, len(found) - 1):
                beside = self._guarded(packed, _with_another(self._segments, changed))
                others = [i for i in range(len(found)) if i != changed]
                leak = _difference([beside[i] for i in others], [found[i] for i in others])
                if not leak < LEAK_TOLERANCE:
                    raise ModelError(
                        f"{self._name}: completions that are packed together see each other (by {leak:.2g})"
                        f"{_why(self._model)}; train another model"
                    )

    def _switch(self, name: str) -> None:
        self._model.set_attn_implementation(name)
        if self._model.config._attn_implementation != name:
            raise ModelError(
                f"{self._name}: its attention is code of its own (older, or with biases such as ALiBi's), in whose "
                "place packed attention cannot be put; take another model"
            )

    def _look_far(self) -> None:
        packed = pack(self._segments[1:], self._model.device)
        self._model.base_model(
            input_ids=packed.tokens[None], position_ids=packed.positions[None], use_cache=False, layout=packed.layout
        )

    def _guarded(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """A model's code may raise anything where it meets arguments that its authors did not think of."""
        try:
            return call(*arguments)
        except torch.OutOfMemoryError:
            raise
        except ModelError as error:
            raise ModelError(f"{self._name}: {error}; take another model") from error
        except Exception as error:
            raise ModelError(
                f"{self._name}: its forward pass does not take packed sequences{_why(self._model)} "
                f"({type(error).__name__}: {str(error)[:120]}); take another model"
            ) from error


def _segments(vocabulary: int) -> list[Segment]:
    """Two prompts with two completions and one; ids from the upper half, where few special tokens are."""
    random = np.random.default_rng(0)
    low = vocabulary // 2
    first, one, two, second, three = (random.integers(low, vocabulary, n).astype(np.int32) for n in (6, 7, 9, 5, 11))
    return [Segment(first, (one, two), (0, 1)), Segment(second, (three,), (2,))]


def _with_another(segments: Sequence[Segment], index: int) -> list[Segment]:
    """The segments with another completion of the same length at `index`."""

    def reversed_at_index(segment: Segment) -> Segment:
        pairs = zip(segment.indices, segment.completions, strict=True)
        return replace(segment, completions=tuple(c[::-1].copy() if i == index else c for i, c in pairs))

    return [reversed_at_index(segment) for segment in segments]


def _sequences(segments: Sequence[Segment]) -> Iterator[tuple[Tensor, int]]:
    for segment in segments:
        for completion in segment.completions:
            ids = np.concatenate((segment.prompt, completion)).astype(np.int64)
            yield torch.from_numpy(ids)[None], len(segment.prompt)


def _difference(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The largest one; nan where there is a nan."""
    return float(torch.cat([(a - b).flatten() for a, b in zip(found, expected, strict=True)]).abs().max())


def _why(model: Any) -> str:
    """What is known about a model that could explain why it is not packed rightly; empty where nothing is."""
    config, found = model.config, []
    mixers = {type(m).__name__ for m in model.modules() if any(isinstance(c, nn.Conv1d) for c in m.children())}
    if mixers:
        found.append(f"its {', '.join(sorted(mixers))} mixes tokens outside of attention")
    head = model.get_output_embeddings()
    if head is not None and getattr(head, "bias", None) is not None:
        found.append("its output layer has a bias")
    for key, neutral in (("final_logit_softcapping", None), ("logit_scale", 1.0), ("logits_scaling", 1.0)):
        if (value := getattr(config, key, neutral)) != neutral:
            found.append(f"it scales or caps its logits ({key}: {value})")
    return f": {' and '.join(found)}" if found else ""
