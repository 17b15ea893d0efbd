"""Weights out of the learner: named full tensors for engines, and Hugging Face folders."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from learner.files import replace_folder
from learner.model.adapters import merged_tensors
from learner.model.loading import is_chance

TOKENIZER_FILES = (
    "tokenizer*",
    "special_tokens_map.json",
    "vocab.*",
    "merges.txt",
    "added_tokens.json",
    "chat_template*",
    "generation_config.json",
)


def named_tensors(model: Any, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """Names and full tensors in `dtype`, adapters merged in, one at a time, in the model's order; tied weights once.

    Every rank must iterate, since a sharded tensor is gathered when its turn comes, and freed when the next one's does.
    """
    for name, tensor in merged_tensors(model):
        yield name, tensor.to(dtype)


def export(model: Any, tensors: Mapping[str, Tensor], source: Path, folder: Path) -> None:
    """Write a Hugging Face folder with `tensors` as weights and the tokenizer files of `source`, atomically."""
    staging = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    contiguous = {name: t.cpu().contiguous() for name, t in tensors.items()}
    model.save_pretrained(staging, state_dict=contiguous)
    config = json.loads((staging / "config.json").read_text())
    original = json.loads((source / "config.json").read_text())
    config |= {key: original[key] for key in config.keys() & original.keys() if is_chance(key)}  # set to 0 at loading
    config |= {"dtype": str(next(iter(contiguous.values())).dtype).removeprefix("torch."), "use_cache": True}
    (staging / "config.json").write_text(json.dumps(config, indent=2))
    for pattern in TOKENIZER_FILES:
        for file in source.glob(pattern):
            shutil.copy2(file, staging / file.name)
    replace_folder(staging, folder)
