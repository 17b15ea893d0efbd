"""Checkpoint names: what files and engines call the tensors of a model, where `transformers` calls them otherwise.

It fuses the experts of a layer into one parameter and renames others when it loads a model. Engines read what the files
hold, so whatever leaves the learner goes through its own reverse conversion.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from torch import Tensor
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    GroupWeightRename,
    PrefixChange,
    WeightConverter,
    WeightRenaming,
    rename_source_key,
    revert_weight_conversion,
)

from learner.errors import ModelError
from learner.model.snapshot import Conversion

#: The conversions of which it is known that a name depends on the tensor alone, or, in a `GroupWeightRename`, on those
#: before it only where there are several sources. All that `transformers` 5.19 brings along are of these kinds.
KNOWN = frozenset({WeightRenaming, WeightConverter, PrefixChange, GroupWeightRename})


def checkpoint_tensors(model: Any, tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """The same weights under the names, and in the layouts, of a checkpoint of `model`.

    One at a time: what is not fused stays the tensor that it is, and what is may be copied when its turn comes. Only
    where a conversion makes one tensor of several are all held at once.

    Args:
        model: of `transformers`, which knows its conversions.
        tensors: names as in `model`, and full tensors.
    """
    known = conversions(model)
    if not known:
        yield from tensors
    elif _takes_several(known):
        yield from revert_weight_conversion(model, dict(tensors)).items()
    else:
        for name, tensor in tensors:
            yield from revert_weight_conversion(model, {name: tensor}).items()


def conversion_of(model: Any) -> Conversion | None:
    """`checkpoint_tensors` of `model`; None where its checkpoints have the tensors that it has."""
    return partial(checkpoint_tensors, model) if conversions(model) else None


def taken_together(model: Any, names: Iterable[str]) -> list[str]:
    """For each tensor of `model`, what is equal for those of which a conversion makes tensors of a checkpoint.

    Where every conversion takes one tensor, nothing is equal; where names depend on names that came before, everything.
    """
    known = conversions(model)
    if not _takes_several(known):
        return list(names)
    reversed_ = [c.reverse_transform() for c in known[::-1]]  # as `revert_weight_conversion` does
    renamings = [c for c in reversed_ if isinstance(c, WeightRenaming)]
    if any(len(c.source_patterns) > 1 for c in renamings):
        return ["" for _ in names]
    converters = [c for c in reversed_ if isinstance(c, WeightConverter)]
    return [rename_source_key(name, renamings, converters, reverse=True)[0] for name in names]


def _takes_several(known: list[Any]) -> bool:
    return any(len(c.reverse_transform().source_patterns) > 1 for c in known)


def model_tensors(model: Any, tensors: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Checkpoint tensors under the names that `model` has for them: what `checkpoint_tensors` undoes.

    A parameter of which nothing or not all came is left out. Hold `learner.model.loading.LOADING` meanwhile.
    """
    made, found = type(model).from_pretrained(
        None, config=model.config, state_dict=dict(tensors), dtype=model.dtype, output_loading_info=True
    )
    return {name: p.detach() for name, p in made.named_parameters() if name not in found["missing_keys"]}


def persistent_buffers(model: Any) -> Iterator[tuple[str, Tensor]]:
    """Names as in `model` and tensors of the buffers that a checkpoint holds, such as the biases of DeepSeek's router.

    No step changes them, so engines have them from the folder that they loaded, and only exports need them.
    """
    kept = model.state_dict().keys()
    yield from ((name, buffer.detach()) for name, buffer in model.named_buffers() if name in kept)


def conversions(model: Any) -> list[Any]:
    """What `transformers` does to the checkpoints of `model` when it loads them; empty for nothing.

    Raises:
        ModelError: something of a kind that is not known: it might remember the names before, and tensors that are
            converted one at a time would get wrong ones.
    """
    own = getattr(model, "_weight_conversions", None)
    found = list(get_model_conversion_mapping(model, add_legacy=False) if own is None else own)
    if unknown := sorted({type(conversion).__name__ for conversion in found if type(conversion) not in KNOWN}):
        raise ModelError(
            f"the checkpoints of {type(model).__name__} are converted by {', '.join(unknown)}, of which it is not "
            "known whether it can be undone tensor by tensor; train another model, or report this one"
        )
    return found
