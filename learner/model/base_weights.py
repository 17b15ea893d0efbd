"""The weights in a model folder as its files hold them, one tensor at a time and through the page cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from learner.errors import ModelError

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
#: Bytes at the start of every tensor that go into the fingerprint: a page, which is what reading one byte costs.
FINGERPRINT_BYTES = 4096


class BaseWeights:
    """Hugging Face names and tensors of a folder's safetensors. The files stay open and are mapped, not loaded.

    Raises:
        ModelError: where the folder has none, or where they cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            files = [safe_open(folder / file, "pt") for file in self._file_names()]
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise ModelError(
                f"{folder} has no readable {SINGLE} or {INDEX} ({error}); receivers merge adapters into the weights "
                "there: convert the folder with save_pretrained, or set lora.broadcast: merged"
            ) from error
        self._places: dict[str, Any] = {}
        for file in files:
            self._places |= dict.fromkeys(file.keys(), file)  # type: ignore[no-untyped-call]

    def _file_names(self) -> list[str]:
        if (self.folder / SINGLE).is_file():
            return [SINGLE]
        return sorted(set(json.loads((self.folder / INDEX).read_text())["weight_map"].values()))

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        """Names in an order that keeps the tensors of a layer together, whatever file they are in."""
        return iter(sorted(self._places))

    def __getitem__(self, name: str) -> Tensor:
        """A view of the mapped file, in the file's dtype; what is written to it stays in this process."""
        tensor: Tensor = self._places[name].get_tensor(name)
        return tensor

    @cached_property
    def fingerprint(self) -> str:
        """Equal for folders with the same names, dtypes, shapes and first page of every tensor."""
        digest = hashlib.sha256()
        for name in self:
            tensor = self[name].flatten()
            start = tensor[: FINGERPRINT_BYTES // tensor.element_size()].view(torch.uint8).numpy().tobytes()
            digest.update(f"{name} {tensor.dtype} {tuple(self[name].shape)}\n".encode() + start)
        return digest.hexdigest()
