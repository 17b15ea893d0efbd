"""Three steps, SIGKILL during the next save, three more steps: bit for bit the same as six in one go."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from learner import Group, LearnerConfig, ObjectiveConfig, OptimizerConfig, Trainer
from learner.batch import load_groups, save_groups

GroupFactory = Callable[..., list[Group]]
CONFIG = LearnerConfig(
    dtype="float32",
    device="cpu",
    minibatches=2,
    objective=ObjectiveConfig(kl="k3", kl_coefficient=0.01, reference_refresh_steps=2),
    optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=4),
)


def _train_and_keep_saving(model: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    trainer = Trainer(CONFIG, model, seed=3)
    for step in range(3):
        trainer.train_step(load_groups(folder / f"{step}.npz"))
    trainer.save(folder / "checkpoints" / "step-3", {"position": 3})
    trainer.train_step(load_groups(folder / "3.npz"))
    while True:  # until killed
        trainer.save_async(folder / "checkpoints" / "step-4", {"position": 4}).result(timeout=60)


@pytest.mark.timeout(300)  # the child imports torch and transformers, which takes long on a busy machine
def test_killed_while_saving_resumes_bit_for_bit(tiny_model: Path, make_groups: GroupFactory, tmp_path: Path) -> None:
    batches = [make_groups(seed=step) for step in range(6)]
    for step, batch in enumerate(batches):
        save_groups(batch, tmp_path / f"{step}.npz")
    straight = Trainer(CONFIG, tiny_model, seed=3)
    for batch in batches:
        straight.train_step(batch)
    expected = dict(straight.snapshot())

    child = multiprocessing.get_context("spawn").Process(target=_train_and_keep_saving, args=(tiny_model, tmp_path))
    child.start()
    deadline = time.monotonic() + 200
    while not (tmp_path / "checkpoints" / ".step-4.tmp").exists():
        assert child.is_alive() and time.monotonic() < deadline, "the child never began its second save"
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join(timeout=30)

    resumed = Trainer(CONFIG, tiny_model, seed=3)
    assert resumed.load(tmp_path / "checkpoints" / "step-3") == {"position": 3}
    for batch in batches[3:]:
        resumed.train_step(batch)
    assert resumed.version == 6
    assert all(torch.equal(tensor, expected[name]) for name, tensor in resumed.snapshot())
