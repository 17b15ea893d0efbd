"""What FSDP2 offloads makes the same updates, on two ranks and on one.

On CPUs nothing has to move; policy, shards, collectives, optimizer and checkpoints are those of GPUs.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.fsdp import FSDPModule

from learner import LearnerConfig, ObjectiveConfig, Trainer
from learner.batch import load_groups, save_groups
from learner.config import LoraSettings
from tests.unit.learner.conftest import GroupFactory
from tests.unit.learner.distributed.two_ranks import PLAIN, join

STEPS = 3
#: Number of ranks, the folder of their batches and checkpoints, and what was found by configuration.
Found = tuple[int, Path, dict[str, dict[str, Any]]]
CONFIGS = {
    "plain": PLAIN,
    "bfloat16 and reference": PLAIN.model_copy(
        update={
            "dtype": "bfloat16",
            "gradient_checkpointing": True,
            "objective": ObjectiveConfig(kl="k3", kl_coefficient=0.05, reference_refresh_steps=2),
        }
    ),
    "adapters": PLAIN.model_copy(update={"lora": LoraSettings(rank=4)}),
}
pytestmark = pytest.mark.timeout(400)


def _offloaded(config: LearnerConfig) -> LearnerConfig:
    """Past the check that refuses it on CPUs."""
    return config.model_copy(update={"optimizer": config.optimizer.model_copy(update={"offload": "cpu"})})


def _trained(config: LearnerConfig, model: Path, folder: Path) -> Trainer:
    trainer = Trainer(config, model, seed=0)
    for step in range(STEPS):
        trainer.train_step(load_groups(folder / f"batch-{step}.npz"))
    return trainer


def _weights(trainer: Trainer) -> list[torch.Tensor]:
    return [tensor.clone() for _, tensor in trainer.named_tensors()]


def _same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def _farthest(one: list[torch.Tensor], other: list[torch.Tensor]) -> float:
    return max(float((a.float() - b.float()).abs().max()) for a, b in zip(one, other, strict=True))


def _rank(rank: int, port: int, ranks: int, model: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    if ranks > 1:
        join(rank, port, 120)
    whole = {name: _weights(_trained(config, model, folder)) for name, config in CONFIGS.items()}
    assert dist.is_initialized() == (ranks > 1), "one rank forms a group only to offload"
    found = {}
    for name, config in CONFIGS.items():
        trainer = _trained(_offloaded(config), model, folder)
        weights, place = _weights(trainer), folder / f"{ranks}" / name
        trainer.save(place, {"n": ranks})
        here = Trainer(_offloaded(config), model, seed=1)
        here.load(place)
        batch = load_groups(folder / "batch-0.npz")
        trainer.train_step(batch)
        here.train_step(batch)
        found[name] = {
            "sharded": isinstance(trainer.policy, FSDPModule),
            "offloads": {parameter.offload_to_cpu for parameter in _parameters_of(trainer)} == {True},
            "same": _same(weights, whole[name]),
            "farthest": _farthest(weights, whole[name]),
            "resumed": _same(_weights(here), _weights(trainer)),
            "difference": trainer.difference(place) is not None,
        }
        trainer.load(place)
        assert trainer.difference(place) is None
    if rank == 0:
        (folder / f"{ranks}.json").write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


def _parameters_of(trainer: Trainer) -> list[Any]:
    """FSDP2's own of each parameter: what was asked of it."""
    modules = [m for m in trainer.policy.modules() if isinstance(m, FSDPModule)]
    groups = [m._get_fsdp_state()._fsdp_param_group for m in modules]
    return [parameter for group in groups if group is not None for parameter in group.fsdp_params]


@pytest.fixture(scope="module")
def batches(tmp_path_factory: pytest.TempPathFactory, make_groups: GroupFactory) -> Path:
    folder = tmp_path_factory.mktemp("offload")
    for step in range(STEPS):
        save_groups(make_groups(count=5, seed=step, version=step, age=2), folder / f"batch-{step}.npz")
    return folder


@pytest.fixture(scope="module", params=[1, 2])
def found(request: pytest.FixtureRequest, tiny_model: Path, batches: Path) -> Found:
    """What one or two ranks made of the same batches with and without, by configuration."""
    ranks: int = request.param
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(_rank, (port, ranks, tiny_model, batches), nprocs=ranks)  # type: ignore[no-untyped-call]
    return ranks, batches, json.loads((batches / f"{ranks}.json").read_text())


@pytest.mark.parametrize("name", CONFIGS)
def test_offloaded_updates_are_the_same(found: Found, name: str) -> None:
    ranks, _, by_name = found
    one = by_name[name]
    assert one["sharded"] and one["offloads"]
    if ranks == 2:  # sharded either way
        assert one["same"], one
    elif name != "bfloat16 and reference":  # in which FSDP2 rounds other tensors than autocast does
        assert one["farthest"] < 1e-5, one


@pytest.mark.parametrize("name", CONFIGS)
def test_an_offloaded_checkpoint_resumes_as_it_was_and_without_offload(
    found: Found, tiny_model: Path, name: str
) -> None:
    ranks, folder, by_name = found
    assert by_name[name]["resumed"] and by_name[name]["difference"]
    plain = Trainer(CONFIGS[name], tiny_model, seed=1)
    assert plain.load(folder / f"{ranks}" / name) == {"n": ranks}
    assert plain.version == STEPS
    assert plain.difference(folder / f"{ranks}" / name) is None
    assert plain.train_step(load_groups(folder / "batch-0.npz"))["optimizer_steps"] == 1


def test_a_learner_on_a_cpu_is_refused() -> None:
    with pytest.raises(ValueError, match="everything is in host memory already"):
        LearnerConfig.model_validate({"device": "cpu", "optimizer": {"offload": "cpu"}})
    assert LearnerConfig.model_validate({"optimizer": {"offload": "cpu"}}).offloads
