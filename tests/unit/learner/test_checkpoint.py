"""Checkpoints: a resumed run is bit-identical, whatever instant its predecessor was killed at."""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from actors.deadline import until
from learner import CheckpointError, Group, LearnerConfig, NonFiniteError, ObjectiveConfig, OptimizerConfig, Trainer
from learner.batch import load_groups, save_groups
from learner.checkpoint import prune
from learner.config import LoraSettings
from learner.extra import META, checkpoints, damage
from learner.optimizer import rate_fraction
from tests.unit.learner.conftest import GroupFactory

PLAIN = LearnerConfig(
    dtype="float32",
    device="cpu",
    micro_batch_tokens=64,
    optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=2),
)
CONFIG = LearnerConfig(
    dtype="float32",
    device="cpu",
    minibatches=2,
    objective=ObjectiveConfig(kl="k3", kl_coefficient=0.01, reference_refresh_steps=2),
    optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=4),
)


def _weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return dict(trainer.snapshot())


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
def test_killed_while_saving_resumes_bit_identical(tiny_model: Path, make_groups: GroupFactory, tmp_path: Path) -> None:
    batches = [make_groups(seed=step) for step in range(6)]
    for step, batch in enumerate(batches):
        save_groups(batch, tmp_path / f"{step}.npz")
    straight = Trainer(CONFIG, tiny_model, seed=3)
    for batch in batches:
        straight.train_step(batch)
    expected = dict(straight.snapshot())

    child = multiprocessing.get_context("spawn").Process(target=_train_and_keep_saving, args=(tiny_model, tmp_path))
    child.start()

    def saving() -> bool:
        assert child.is_alive()
        return (tmp_path / "checkpoints" / ".step-4.tmp").exists()

    assert until(saving, 200, 0.001), "the child never began its second save"
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join(timeout=30)

    resumed = Trainer(CONFIG, tiny_model, seed=3)
    assert resumed.load(tmp_path / "checkpoints" / "step-3") == {"position": 3}
    for batch in batches[3:]:
        resumed.train_step(batch)
    assert resumed.version == 6
    assert all(torch.equal(tensor, expected[name]) for name, tensor in resumed.snapshot())


RESUMED = {
    "plain": PLAIN,
    "minibatches, reference, schedule": CONFIG,
    "bfloat16": PLAIN.model_copy(update={"dtype": "bfloat16", "gradient_checkpointing": True}),
    "adapters": CONFIG.model_copy(update={"lora": LoraSettings(rank=2), "epochs": 2}),
    "decay": PLAIN.model_copy(update={"optimizer": OptimizerConfig(learning_rate=1e-3, decay_steps=4)}),
}


@pytest.mark.parametrize("name", RESUMED)
def test_whatever_step_a_run_resumes_at_all_that_follows_is_bit_identical(
    tiny_model: Path, make_groups: GroupFactory, tmp_path: Path, name: str
) -> None:
    config = RESUMED[name].model_copy(update={"checkpoint_keep_last": 9})
    batches = [make_groups(seed=s, version=s, age=2, masked=0.2 * (s % 2)) for s in range(6)]
    batches[2] = [_all_right(group) for group in batches[2]]  # nothing to learn: a version without a step
    straight, states = Trainer(config, tiny_model, seed=1), []
    for step, batch in enumerate(batches):
        straight.save(tmp_path / f"step-{step}", {"step": step})
        straight.train_step(batch)
        states.append(_state_of(straight))
    for step, batch in enumerate(batches):
        resumed = Trainer(config, tiny_model, seed=1)
        assert resumed.load(tmp_path / f"step-{step}") == {"step": step}
        resumed.train_step(batch)
        assert resumed.version == step + 1
        found = _state_of(resumed)
        assert found.keys() == states[step].keys()
        assert [key for key in found if not torch.equal(found[key], states[step][key])] == []


def _all_right(group: Group) -> Group:
    return Group(group.prompt, tuple(replace(c, reward=1.0) for c in group.completions), group.id)


def _state_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Weights, adapters, reference, moments and step counts, rate and random state."""
    state = {f"model.{name}": p.detach().clone() for name, p in trainer.model.named_parameters()}
    if trainer.reference is not None:
        state |= {f"reference.{name}": p.clone() for name, p in trainer.reference.model.named_parameters()}
    for i, moments in enumerate(trainer.optimizer.state.values()):
        state |= {f"{i}.{key}": tensor.clone() for key, tensor in moments.items()}
    state["rate"] = torch.tensor(trainer.scheduler.get_last_lr(), dtype=torch.float64)
    return state | {"random": torch.get_rng_state()}


def test_steps_that_were_not_finite_count_on_after_a_resume(
    tiny_model: Path, make_groups: GroupFactory, tmp_path: Path
) -> None:
    config = PLAIN.model_copy(update={"inspection_folder": str(tmp_path), "max_non_finite_steps": 2})
    batch = make_groups()

    def spoilt() -> Trainer:
        trainer = Trainer(config, tiny_model, seed=1)
        with torch.no_grad():
            next(trainer.model.parameters())[0, 0] = torch.inf
        return trainer

    first = spoilt()
    assert first.train_step(batch)["non_finite"] == 1
    first.save(tmp_path / "step-1", {})
    second = spoilt()
    second.load(tmp_path / "step-1")
    with pytest.raises(NonFiniteError):
        second.train_step(batch)


def test_load_names_what_is_missing(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere is not a checkpoint, or is damaged: learner.json is missing"):
        Trainer(PLAIN, tiny_model, seed=0).load(tmp_path / "nowhere")


def test_a_save_that_dies_leaves_the_previous_checkpoint(
    tiny_model: Path, make_groups: GroupFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process ends (here: an exception that nobody handles) between writing the tensors and the rename."""
    trainer = Trainer(PLAIN, tiny_model, seed=0)
    folder = tmp_path / "latest"
    trainer.save(folder, {"n": 0})
    expected = _weights(trainer)
    trainer.train_step(make_groups())
    with monkeypatch.context() as patch:
        patch.setattr("learner.checkpoint.replace_folder", _power_cut)
        with pytest.raises(CheckpointError, match="earlier ones are untouched"):
            trainer.save(folder, {"n": 1})
    assert trainer.load(folder) == {"n": 0}
    assert all(torch.equal(tensor, expected[name]) for name, tensor in _weights(trainer).items())
    trainer.save(folder, {"n": 2})
    assert trainer.load(folder) == {"n": 2}
    assert [p.name for p in tmp_path.iterdir()] == ["latest"]


def _power_cut(staging: Path, folder: Path) -> None:
    raise OSError(f"power cut between {staging.name} and {folder.name}")


def test_saving_runs_beside_training_and_keeps_the_last(
    tiny_model: Path, make_groups: GroupFactory, tmp_path: Path
) -> None:
    trainer = Trainer(PLAIN, tiny_model, seed=0)
    expected, pending = {}, []
    for step in range(3):
        trainer.train_step(make_groups(seed=step))
        expected[step] = _weights(trainer)
        pending.append(trainer.save_async(tmp_path / f"step-{step}", {"step": step}))
    trainer.train_step(make_groups(seed=9))  # must not reach the files
    for future in pending:
        future.result(timeout=60)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-1", "step-2"]
    for step in (1, 2):
        assert trainer.load(tmp_path / f"step-{step}") == {"step": step}
        assert all(torch.equal(tensor, expected[step][name]) for name, tensor in _weights(trainer).items())


@pytest.mark.parametrize("spoilt", ["__0_0.distcp", ".metadata", "learner.json"])
@pytest.mark.parametrize("how", ["truncated", "missing"])
def test_a_damaged_checkpoint_is_an_error_that_names_it(
    tiny_model: Path, tmp_path: Path, spoilt: str, how: str
) -> None:
    trainer = Trainer(PLAIN, tiny_model, seed=0)
    trainer.save(tmp_path / "step-000001", {})
    file = tmp_path / "step-000001" / spoilt
    file.write_bytes(file.read_bytes()[:-9]) if how == "truncated" else file.unlink()
    with pytest.raises(CheckpointError, match="step-000001"):
        trainer.load(tmp_path / "step-000001")


@pytest.fixture
def largest_file() -> Iterator[Callable[[int], None]]:
    """Sets the largest file that this process may write (bytes): a disk that fills up on the way."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 1000, 50_000])
def test_a_full_disk_leaves_the_earlier_checkpoint_and_nothing_of_the_new_one(
    tiny_model: Path, make_groups: GroupFactory, tmp_path: Path, largest_file: Callable[[int], None], size: int
) -> None:
    trainer = Trainer(PLAIN, tiny_model, seed=0)
    trainer.save(tmp_path / "step-000000", {})
    expected = _weights(trainer)
    trainer.train_step(make_groups())
    largest_file(size)
    with pytest.raises(CheckpointError, match=r"step-000001: .*too large") as error:
        trainer.save(tmp_path / "step-000001", {})
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000"]
    largest_file(resource.RLIM_INFINITY)
    trainer.save(tmp_path / "step-000001", {})  # there is room again
    trainer.load(tmp_path / "step-000000")
    assert all(torch.equal(tensor, expected[name]) for name, tensor in _weights(trainer).items())


def test_where_no_folder_can_be_made_saving_says_so(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file in its place")
    with pytest.raises(CheckpointError, match="step-000001"):
        Trainer(PLAIN, tiny_model, seed=0).save(tmp_path / "checkpoints" / "step-000001", {})


def test_a_full_disk_leaves_the_model_that_was_exported_before(
    tiny_model: Path, make_groups: GroupFactory, tmp_path: Path, largest_file: Callable[[int], None]
) -> None:
    trainer = Trainer(PLAIN, tiny_model, seed=0)
    trainer.export(tmp_path / "model")
    before = (tmp_path / "model" / "model.safetensors").read_bytes()
    trainer.train_step(make_groups())
    largest_file(20_000)
    with pytest.raises(CheckpointError, match="could not write the model"):
        trainer.export(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == before


def test_only_whole_checkpoints_count_and_only_they_are_deleted(tmp_path: Path) -> None:
    """Left over: what a crash leaves, a copy that a user has made, and a newer checkpoint that is damaged."""
    for name in ("step-000008", "step-000009", "step-000010", "step-000009-good", ".step-000011.tmp"):
        (tmp_path / name).mkdir()
        (tmp_path / name / META).write_text('{"files": {}}')
    (tmp_path / "step-000012").mkdir()
    (tmp_path / "step-000012" / META).write_text('{"files": {"shard": 8}}')
    prune(tmp_path / "step-000010", keep_last=1)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"step-000009-good", "step-000010", ".step-000011.tmp", "step-000012"}


def test_the_checkpoint_that_was_just_verified_stays_beside_newer_ones_of_other_bytes(
    tiny_model: Path, tmp_path: Path
) -> None:
    """Two that have the sizes of whole ones, as a broken disk leaves them, do not push out the only sound one."""
    trainer = Trainer(PLAIN.model_copy(update={"checkpoint_keep_last": 2}), tiny_model, seed=0)
    trainer.save(tmp_path / "step-000010", {})
    for name in ("step-000020", "step-000030"):
        shutil.copytree(tmp_path / "step-000010", tmp_path / name)
        shard = tmp_path / name / "__0_0.distcp"
        shard.write_bytes(bytes(shard.stat().st_size))
    trainer.save(tmp_path / "step-000011", {})
    assert [damage(path, contents=True) for path in checkpoints(tmp_path).values()] == [
        None,
        *["__0_0.distcp holds other bytes than were written"] * 2,
    ]
    assert trainer.load(tmp_path / "step-000011") == {}


SETTINGS = OptimizerConfig(learning_rate=3e-3, betas=(0.8, 0.95), epsilon=1e-6, weight_decay=0.2, gradient_clip=0.5)


def test_a_resumed_run_has_the_moments_of_the_checkpoint_and_the_settings_that_it_is_given(
    tiny_model: Path, make_groups: GroupFactory, tmp_path: Path
) -> None:
    first = Trainer(PLAIN, tiny_model, seed=0)
    for step in range(3):
        first.train_step(make_groups(seed=step))
    first.save(tmp_path / "step-000003", {})
    schedule = {"warmup_steps": 2, "decay_steps": 10, "final_fraction": 0.0}
    config = SETTINGS.model_copy(update=schedule)
    again = Trainer(PLAIN.model_copy(update={"optimizer": config}), tiny_model, seed=0)
    again.load(tmp_path / "step-000003")
    moments = [
        (mine["exp_avg"], theirs["exp_avg"])
        for mine, theirs in zip(again.optimizer.state.values(), first.optimizer.state.values(), strict=True)
    ]
    assert moments and all(torch.equal(mine, theirs) for mine, theirs in moments)
    assert again.train_step(make_groups(seed=3))["learning_rate"] == pytest.approx(3e-3 * rate_fraction(3, config))
    group, *_ = again.optimizer.param_groups
    assert (group["betas"], group["eps"], group["weight_decay"]) == ((0.8, 0.95), 1e-6, 0.2)
    assert again.train_step(make_groups(seed=4))["learning_rate"] == pytest.approx(3e-3 * rate_fraction(4, config))


@pytest.mark.parametrize(
    "changed",
    [
        {"fused_kernels": False},
        {"dtype": "bfloat16"},
        {"gradient_checkpointing": True},
        {"minibatches": 3, "epochs": 2, "micro_batch_tokens": 30},
        {"objective": ObjectiveConfig(name="dr_grpo")},
    ],
)
def test_a_checkpoint_fits_another_way_of_computing(
    tiny_model: Path, make_groups: GroupFactory, tmp_path: Path, changed: dict[str, Any]
) -> None:
    first = Trainer(PLAIN, tiny_model, seed=0)
    first.train_step(make_groups(seed=0))
    first.save(tmp_path / "step-000001", {})
    again = Trainer(LearnerConfig.model_validate({**PLAIN.model_dump(), **changed}), tiny_model, seed=0)
    again.load(tmp_path / "step-000001")
    expected = dict(first.model.named_parameters())
    assert all(torch.equal(p, expected[name]) for name, p in again.model.named_parameters())
    assert again.train_step(make_groups(seed=1))["optimizer_steps"] >= 1
