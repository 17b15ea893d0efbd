"""Two Gloo ranks make the same update as one, and their checkpoints fit each other."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file, save_file

from learner import Group, LearnerConfig, ObjectiveConfig, OptimizerConfig, Trainer
from learner.batch import load_groups, save_groups

GroupFactory = Callable[..., list[Group]]
STEPS = 3


def _config(checkpointing: bool, kl: bool) -> LearnerConfig:
    objective = ObjectiveConfig(kl="k3", kl_coefficient=0.05, reference_refresh_steps=2) if kl else ObjectiveConfig()
    return LearnerConfig(
        dtype="float32",
        device="cpu",
        micro_batch_tokens=60,
        gradient_checkpointing=checkpointing,
        objective=objective,
        optimizer=OptimizerConfig(learning_rate=1e-3, epsilon=1e-6),
    )


def _train(config: LearnerConfig, model: Path, folder: Path) -> tuple[Trainer, dict[str, float]]:
    trainer = Trainer(config, model, seed=0)
    statistics: dict[str, float] = {}
    for step in range(STEPS):
        statistics = trainer.train_step(load_groups(folder / f"batch-{step}.npz"))
    return trainer, statistics


def _rank(rank: int, port: int, configs: dict[str, LearnerConfig], model: Path, folder: Path) -> None:
    """One of two ranks; rank 0 leaves weights and statistics of every configuration in `folder`."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"tcp://127.0.0.1:{port}",
        rank=rank,
        world_size=2,
        timeout=datetime.timedelta(seconds=60),
    )
    for name, config in configs.items():
        trainer, statistics = _train(config, model, folder)
        tensors = dict(trainer.snapshot())
        trainer.save(folder / name / "checkpoint", {"from": "two ranks"})
        if rank == 0:
            save_file(tensors, folder / name / "weights.safetensors")
            (folder / name / "statistics.json").write_text(json.dumps(statistics))
        # Sharded state comes back as it was, after a step that changed it.
        dist.barrier()
        trainer.train_step(load_groups(folder / "batch-0.npz"))
        trainer.load(folder / name / "checkpoint")
        assert all(torch.equal(tensors[n], tensor) for n, tensor in trainer.named_tensors())
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.timeout(300)  # two processes import torch and transformers, which takes long on a busy machine
def test_two_ranks_equal_one(tiny_model: Path, make_groups: GroupFactory, tmp_path: Path, free_port: int) -> None:
    for step in range(STEPS):
        save_groups(make_groups(count=5, seed=step, version=step, age=2), tmp_path / f"batch-{step}.npz")
    configs = {"plain": _config(checkpointing=False, kl=False), "all": _config(checkpointing=True, kl=True)}
    mp.spawn(_rank, (free_port, configs, tiny_model, tmp_path), nprocs=2)
    for name, config in configs.items():
        one, expected = _train(config, tiny_model, tmp_path)
        found = json.loads((tmp_path / name / "statistics.json").read_text())
        for key in set(expected) - {"seconds", "tokens_per_second", "teraflops", "mfu"}:
            assert found[key] == pytest.approx(expected[key], rel=1e-3, abs=1e-5), key
        two = load_file(tmp_path / name / "weights.safetensors")
        for key, tensor in one.named_tensors():
            torch.testing.assert_close(two[key], tensor, atol=1e-5, rtol=0)
        # A checkpoint of two ranks goes on with one.
        assert one.load(tmp_path / name / "checkpoint") == {"from": "two ranks"}
        assert all(torch.equal(two[key], tensor) for key, tensor in one.named_tensors())
