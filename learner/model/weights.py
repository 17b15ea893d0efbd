"""Weights out of the learner: named full tensors for engines, and Hugging Face folders."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from learner.distributed import ranks
from learner.errors import CheckpointError
from learner.files import staged
from learner.model.adapters import merged_parameters
from learner.model.loading import is_chance
from learner.model.names import persistent_buffers, taken_together
from learner.model.stripes import stripes

TOKENIZER_FILES = (
    "tokenizer*",
    "special_tokens_map.json",
    "vocab.*",
    "merges.txt",
    "added_tokens.json",
    "chat_template*",
    "generation_config.json",
)


def full_tensors(tensors: Iterable[tuple[str, Tensor]], dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """The same tensors, full and in `dtype`, one at a time.

    Every rank must iterate, since a sharded tensor is gathered when its turn comes, and freed when the next one's does.
    """
    for name, tensor in tensors:
        yield name, ranks.full_tensor(tensor.to(dtype))


def keepers(model: Any, senders: Sequence[int]) -> list[int] | None:
    """The rank that keeps, and sends, each tensor of `merged_tensors`: a stripe of about equal bytes each, which holds
    whatever one conversion takes.

    Args:
        model: whose weights they are.
        senders: the ranks, in the order of their stripes.

    Returns:
        None where the first rank sends everything.
    """
    if list(senders) == [0]:
        return None
    tensors = [(name, parameter.shape.numel()) for name, parameter, _ in merged_parameters(model)]
    together = taken_together(model, [name for name, _ in tensors])
    return [senders[stripe] for stripe in stripes([size for _, size in tensors], together, len(senders))]


def export(model: Any, tensors: Mapping[str, Tensor], source: Path, folder: Path) -> None:
    """Write a Hugging Face folder with `tensors` as weights and the tokenizer files of `source`, atomically.

    Args:
        model: whose weights they are; the buffers that a checkpoint holds are taken from it, in its dtype.
        tensors: by the names of `model`, full; the files have those of a checkpoint.
        source: folder that the model began from.
        folder: to write.

    Raises:
        CheckpointError: where it cannot be written; what was in its place is untouched.
    """
    try:
        with staged(folder) as staging:
            _write(model, tensors, source, staging)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"could not write the model {folder}: {error}; make room there, or let it be written, and resume"
        ) from error


def _write(model: Any, tensors: Mapping[str, Tensor], source: Path, folder: Path) -> None:
    contiguous = {name: t.cpu().contiguous() for name, t in tensors.items()}
    buffers = {name: t.cpu().contiguous() for name, t in persistent_buffers(model)}
    model.save_pretrained(folder, state_dict=contiguous | buffers)  # which undoes the conversions of the loading
    config = json.loads((folder / "config.json").read_text())
    original = json.loads((source / "config.json").read_text())
    config |= {key: original[key] for key in config.keys() & original.keys() if is_chance(key)}  # set to 0 at loading
    config |= {"dtype": str(next(iter(contiguous.values())).dtype).removeprefix("torch."), "use_cache": True}
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    for pattern in TOKENIZER_FILES:
        for file in source.glob(pattern):
            shutil.copy2(file, folder / file.name)
