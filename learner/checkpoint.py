"""Checkpoints (torch DCP, atomic) and Hugging Face exports."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException

from learner.errors import CheckpointError

META = "learner.json"
FORMAT = 1
TOKENIZER_FILES = (
    "tokenizer*",
    "special_tokens_map.json",
    "vocab.*",
    "merges.txt",
    "added_tokens.json",
    "chat_template*",
    "generation_config.json",
)


def save(folder: Path, state: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
    """Write `state` (tensors) and `meta` (JSON) so that `folder` appears whole or not at all."""
    staging = _staging(folder)
    try:
        state_dict_saver.save(dict(state), checkpoint_id=staging, no_dist=True)
        (staging / META).write_text(json.dumps({"format": FORMAT, **meta}))
        commit(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def read_extra(folder: Path) -> dict[str, Any]:
    """What the caller of `Trainer.save` stored beside the tensors, without loading them. Raises `CheckpointError`."""
    try:
        meta = json.loads((folder / META).read_text())
        return dict(meta["extra"])
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{folder} is not a checkpoint ({error}); name a folder that Trainer.save wrote"
        ) from error


def load(folder: Path, state: dict[str, Any]) -> dict[str, Any]:
    """Fill the tensors of `state` from `folder`; returns the meta data. Raises `CheckpointError`."""
    missing = [name for name in (META, ".metadata") if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{folder} is not a checkpoint: {' and '.join(missing)} missing; name a folder that Trainer.save wrote"
        )
    meta: dict[str, Any] = json.loads((folder / META).read_text())
    if meta.get("format") != FORMAT:
        raise CheckpointError(f"{folder} has checkpoint format {meta.get('format')}, this version reads {FORMAT}")
    try:
        state_dict_loader.load(state, checkpoint_id=folder, no_dist=True)
    except CheckpointException as error:
        raise CheckpointError(
            f"{folder} does not fit this model and configuration, or is damaged: {str(error).strip()[-500:]}"
        ) from error
    return meta


def materialise(optimizer: torch.optim.Optimizer) -> None:
    """Give every parameter its optimizer state, so that a checkpoint can be loaded into it before the first step."""
    for group in optimizer.param_groups:
        for p in group["params"]:
            if not optimizer.state[p]:
                optimizer.state[p] = {
                    "step": torch.zeros((), dtype=torch.float32, device=p.device),
                    "exp_avg": torch.zeros_like(p),
                    "exp_avg_sq": torch.zeros_like(p),
                }


def export(model: Any, tensors: Mapping[str, Tensor], source: Path, folder: Path) -> None:
    """Write a Hugging Face folder with `tensors` as weights and the tokenizer files of `source`, atomically."""
    staging = _staging(folder)
    try:
        staging.mkdir(parents=True)
        contiguous = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
        model.save_pretrained(staging, state_dict=contiguous)
        config = json.loads((staging / "config.json").read_text())
        config["dtype"] = str(next(iter(contiguous.values())).dtype).removeprefix("torch.")
        config["use_cache"] = True
        (staging / "config.json").write_text(json.dumps(config, indent=2))
        for pattern in TOKENIZER_FILES:
            for file in source.glob(pattern):
                shutil.copy2(file, staging / file.name)
        commit(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def commit(staging: Path, folder: Path) -> None:
    """Make `staging` durable, then put it in the place of `folder`."""
    for file in staging.rglob("*"):
        if file.is_file():
            _sync(file)
    _sync(staging)
    retired = None
    if folder.exists():
        # rename() replaces no filled folder: move the old one aside first, delete it last.
        retired = folder.with_name(f".{folder.name}.old-{uuid.uuid4().hex[:8]}")
        folder.rename(retired)
    staging.rename(folder)
    _sync(folder.parent)
    if retired is not None:
        shutil.rmtree(retired)


def _staging(folder: Path) -> Path:
    folder.parent.mkdir(parents=True, exist_ok=True)
    return folder.with_name(f".{folder.name}.tmp-{uuid.uuid4().hex[:8]}")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
