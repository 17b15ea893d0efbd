"""Two Gloo ranks make the same update as one, send the same weights, and their checkpoints fit each other."""

from __future__ import annotations

import hashlib
import json
import socket
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file, save_file
from torch.distributed.tensor import DTensor

from benchmarks.families import family
from learner import CheckpointError, LearnerConfig, ObjectiveConfig, SftConfig, Trainer, train_sft
from learner.batch import Completion, Group, load_groups, save_groups
from learner.config import LoraSettings
from learner.extra import damage, read_meta
from learner.model.base_weights import BaseWeights
from learner.model.merging import Merging, merged_weights
from tests.unit.learner.conftest import GroupFactory
from tests.unit.learner.distributed.two_ranks import PLAIN, join
from tests.unit.learner.mixtures import routed, written

STEPS = 3
CONFIGS = {
    "plain": PLAIN,
    "checkpointing and reference": PLAIN.model_copy(
        update={
            "gradient_checkpointing": True,
            "objective": ObjectiveConfig(kl="k3", kl_coefficient=0.05, reference_refresh_steps=2),
        }
    ),
    "bfloat16": PLAIN.model_copy(update={"dtype": "bfloat16"}),
    "lora, merged": PLAIN.model_copy(update={"lora": LoraSettings(rank=4)}),
    "lora, adapters": PLAIN.model_copy(
        update={
            "lora": LoraSettings(rank=4, broadcast="adapters"),
            "objective": ObjectiveConfig(kl="k3", kl_coefficient=0.05, reference_refresh_steps=2),
        }
    ),
}

REPLAYING = PLAIN.model_copy(update={"router_replay": True})


def _train(config: LearnerConfig, model: Path, folder: Path, shares: bool = False) -> tuple[Trainer, dict[str, float]]:
    """With `shares` a rank has no token that is not in its share."""
    trainer = Trainer(config, model, seed=0)
    statistics: dict[str, float] = {}
    for step in range(STEPS):
        groups = load_groups(folder / f"batch-{step}.npz")
        if shares:
            share = trainer.share(groups, step)
            assert 0 < sum(map(len, share)) < sum(len(group.completions) for group in groups)
            groups = [_without_others(group, own) for group, own in zip(groups, share, strict=True)]
        statistics = trainer.train_step(groups)
    return trainer, statistics


def _without_others(group: Group, own: list[int]) -> Group:
    completions = [
        c
        if i in own
        else replace(c, tokens=c.tokens * 0, logprobs=np.full_like(c.logprobs, _mean_logprob(c)), routed_experts=None)
        for i, c in enumerate(group.completions)
    ]
    if not own:
        return Group(group.prompt * 0, tuple(completions), group.id)
    return replace(group, completions=tuple(completions))


def _mean_logprob(completion: Completion) -> float:
    return float(completion.unmasked(completion.logprobs).mean(dtype=np.float64))


def _rank(rank: int, port: int, model: Path, folder: Path) -> None:
    """One of two ranks; rank 0 leaves weights and statistics of every configuration in `folder`."""
    join(rank, port, 60)
    for name, config in CONFIGS.items():
        trainer, statistics = _train(config, model, folder, shares=True)
        sent = dict(trainer.snapshot())
        if name == "plain":
            whole, _ = _train(config, model, folder)
            assert all(torch.equal(sent[name], tensor) for name, tensor in whole.snapshot()), "shares change bits"
        assert bool(sent) == (rank == 0), "only the sending rank keeps a copy"
        trainer.save(folder / name / "checkpoint", {"from": "two ranks"})
        trainer.export(folder / name / "exported")
        if rank == 0:
            save_file(sent, folder / name / "weights.safetensors")
            (folder / name / "statistics.json").write_text(json.dumps(statistics))
        # Sharded state comes back as it was, after a step that changed it.
        before = [tensor.clone() for _, tensor in trainer.named_tensors()]
        dist.barrier()
        trainer.train_step(load_groups(folder / "batch-0.npz"))
        after = [tensor.clone() for _, tensor in trainer.named_tensors()]
        trainer.load(folder / name / "checkpoint")
        assert all(torch.equal(a, b) for a, (_, b) in zip(before, trainer.named_tensors(), strict=True))
        trainer.train_step(load_groups(folder / "batch-0.npz"))
        assert all(torch.equal(a, b) for a, (_, b) in zip(after, trainer.named_tensors(), strict=True))
        trainer.load(folder / name / "checkpoint")
        if rank == 0:
            (folder / name / "peak.json").write_text(json.dumps(_most_gathered(trainer.named_tensors())))
        else:
            assert sum(1 for _ in trainer.named_tensors()) == len(before)
    _save_on_two_nodes(trainer, folder, rank)
    _send_experts(folder / "experts", rank)
    replaying, statistics = _train(REPLAYING, folder / "replayed", folder / "replayed", shares=True)
    sent = dict(replaying.snapshot())
    if rank == 0:
        save_file(sent, folder / "replayed.safetensors")
        (folder / "replayed.json").write_text(json.dumps(statistics))
    statistics, sent = _sft_updates(model)
    if rank == 0:
        save_file(sent, folder / "sft.safetensors")
        (folder / "sft.json").write_text(json.dumps(statistics))
    dist.barrier()
    dist.destroy_process_group()


def _send_experts(folder: Path, rank: int) -> None:
    """Fused parameters, of which each rank has a part, leave both ranks as the files have them."""
    trainer = Trainer(PLAIN, folder / "model", seed=0)
    assert any(isinstance(p, DTensor) and p.dim() == 3 for p in trainer.model.parameters())
    sent = dict(trainer.snapshot())
    assert bool(sent) == (rank == 0)
    gathered = {name: tensor.clone() for name, tensor in trainer.named_tensors()}
    trainer.export(folder / "exported")
    save_file(sent or gathered, folder / f"{rank}.safetensors")


def _save_on_two_nodes(trainer: Trainer, folder: Path, rank: int) -> None:
    """Each node has a disk of its own under the path of the run folder."""
    try:
        trainer.save(folder / f"node-{rank}" / "step-000001", {})
    except CheckpointError as error:
        (folder / f"node-{rank}.txt").write_text(str(error))


def _sft_updates(model: Path) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """Two rounds of supervised training, each of which ends in a measurement of the held-out loss."""
    trainer = Trainer(PLAIN, model, seed=0)
    random = np.random.default_rng(0)
    examples = [(random.integers(0, 64, 3).astype(np.int32), random.integers(0, 64, 5).astype(np.int32))] * 8
    config = SftConfig(batch_size=4, epochs=2, check_every=1, learning_rate=1e-3)
    train_sft(trainer, examples, config, held_out=examples)
    return train_sft(trainer, examples, config, held_out=examples), dict(trainer.snapshot())


def _most_gathered(tensors: Iterator[tuple[str, torch.Tensor]]) -> dict[str, int]:
    """Elements of full tensors that existed at one time while `tensors` was consumed, and of all together."""
    gather: Any = DTensor.full_tensor
    counts = {"now": 0, "most": 0, "all": 0}

    def counted(self: DTensor, **kwargs: Any) -> torch.Tensor:
        full: torch.Tensor = gather(self, **kwargs)
        counts["now"] += full.numel()
        counts["all"] += full.numel()
        counts["most"] = max(counts["most"], counts["now"])
        weakref.finalize(full, lambda n: counts.update(now=counts["now"] - n), full.numel())
        return full

    DTensor.full_tensor = counted  # type: ignore[method-assign]
    try:
        largest = max(tensor.numel() for _, tensor in tensors)
    finally:
        DTensor.full_tensor = gather  # type: ignore[method-assign]
    return {**counts, "largest": largest}


@pytest.fixture(scope="module")
def two_ranks(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory, make_groups: GroupFactory) -> Path:
    """What two ranks made of the same batches, by configuration."""
    folder = tmp_path_factory.mktemp("ranks")
    for step in range(STEPS):
        masked = 0.3 if step == 1 else 0.0
        groups = make_groups(count=5, seed=step, version=step, age=2, masked=masked)
        save_groups(groups, folder / f"batch-{step}.npz")
        save_groups(routed(groups), folder / "replayed" / f"batch-{step}.npz")
    family("qwen3-moe", folder / "experts" / "model")
    written(folder / "replayed", "qwen3")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    mp.spawn(_rank, (port, tiny_model, folder), nprocs=2)
    return folder


# The first of these waits for two processes that import torch and transformers, which takes long on a busy machine.
pytestmark = pytest.mark.timeout(400)


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "bfloat16"])
def test_two_ranks_equal_one(tiny_model: Path, two_ranks: Path, name: str) -> None:
    one, expected = _train(CONFIGS[name], tiny_model, two_ranks)
    found = json.loads((two_ranks / name / "statistics.json").read_text())
    assert set(found) == set(expected)
    for key in set(expected) - {"seconds", "tokens_per_second", "teraflops", "mfu"}:
        assert found[key] == pytest.approx(expected[key], rel=1e-3, abs=1e-5), key
    two = load_file(two_ranks / name / "weights.safetensors")
    assert set(two) == {key for key, _ in one.named_tensors()}
    for key, tensor in one.named_tensors():
        torch.testing.assert_close(two[key], tensor, atol=1e-5, rtol=0)


@pytest.mark.parametrize("file", ["0.safetensors", "1.safetensors", "exported/model.safetensors"])
def test_experts_that_are_sharded_are_sent_and_exported_as_the_files_have_them(two_ranks: Path, file: str) -> None:
    expected, found = (load_file(two_ranks / "experts" / name) for name in ("model/model.safetensors", file))
    assert any(".experts.3.gate_proj." in name for name in expected)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_two_ranks_replay_the_routing_of_their_shares_as_one_that_of_all(two_ranks: Path) -> None:
    one, expected = _train(REPLAYING, two_ranks / "replayed", two_ranks / "replayed")
    found = json.loads((two_ranks / "replayed.json").read_text())
    assert found["replayed_fraction"] == expected["replayed_fraction"] == 1
    for key in ("loss", "entropy", "gradient_norm", "logprob_difference_mean"):
        assert found[key] == pytest.approx(expected[key], rel=1e-3, abs=1e-5), key
    for key, tensor in load_file(two_ranks / "replayed.safetensors").items():
        torch.testing.assert_close(dict(one.named_tensors())[key], tensor, atol=1e-5, rtol=0)


def test_two_ranks_make_the_same_sft_updates_as_one(tiny_model: Path, two_ranks: Path) -> None:
    expected, one = _sft_updates(tiny_model)
    assert json.loads((two_ranks / "sft.json").read_text()) == pytest.approx(expected, rel=1e-3)
    for key, tensor in load_file(two_ranks / "sft.safetensors").items():
        torch.testing.assert_close(one[key], tensor, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_checkpoint_of_two_ranks_resumes_with_one(tiny_model: Path, two_ranks: Path, name: str) -> None:
    one = Trainer(CONFIGS[name], tiny_model, seed=1)
    assert one.load(two_ranks / name / "checkpoint") == {"from": "two ranks"}
    assert one.version == STEPS
    two = load_file(two_ranks / name / "weights.safetensors")
    for key, tensor in one.named_tensors():
        torch.testing.assert_close(two[key], tensor, atol=1e-6, rtol=0)


def test_a_checkpoint_whose_shards_are_on_two_disks_is_never_called_durable(two_ranks: Path) -> None:
    said = (two_ranks / "node-0.txt").read_text()
    assert "__1_0.distcp" in said and socket.gethostname() in said and "set output" in said
    assert list((two_ranks / "node-0").iterdir()) == []


def test_every_file_of_a_checkpoint_is_hashed_before_it_is_durable(two_ranks: Path) -> None:
    folder = two_ranks / "plain" / "checkpoint"
    hashes = read_meta(folder)["sha256"]
    assert {"__0_0.distcp", "__1_0.distcp", ".metadata"} <= hashes.keys()
    assert hashes == {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in hashes}
    assert damage(folder, contents=True) is None


def test_bfloat16_on_two_ranks_is_the_same_update_but_for_rounding(tiny_model: Path, two_ranks: Path) -> None:
    start = dict(Trainer(PLAIN, tiny_model, seed=0).named_tensors())
    exact, expected = _train(PLAIN, tiny_model, two_ranks)
    found = json.loads((two_ranks / "bfloat16" / "statistics.json").read_text())
    assert found["entropy"] == pytest.approx(expected["entropy"], rel=0.02)
    assert found["gradient_norm"] == pytest.approx(expected["gradient_norm"], rel=0.1)
    assert found["trained_tokens"] == expected["trained_tokens"]
    sent = load_file(two_ranks / "bfloat16" / "weights.safetensors")
    assert all(tensor.dtype == torch.bfloat16 for tensor in sent.values())
    # Bfloat16 weights would swallow steps of 1e-3: the masters, which the checkpoint holds, must be float32.
    masters = Trainer(PLAIN, tiny_model, seed=0)
    masters.load(two_ranks / "bfloat16" / "checkpoint")
    mine = torch.cat([(t - start[n]).flatten() for n, t in masters.named_tensors()])
    theirs = torch.cat([(t - start[n]).flatten() for n, t in exact.named_tensors()])
    assert torch.nn.functional.cosine_similarity(mine, theirs, dim=0) > 0.9


@pytest.mark.parametrize("name", CONFIGS)
def test_weights_are_sent_a_tensor_at_a_time(two_ranks: Path, name: str) -> None:
    counts = json.loads((two_ranks / name / "peak.json").read_text())
    assert counts["now"] == 0, "gathered tensors are kept"
    assert 0 < counts["most"] <= 2 * counts["largest"] < counts["all"]


@pytest.mark.parametrize("name", CONFIGS)
def test_two_ranks_export_what_they_send(tiny_model: Path, two_ranks: Path, name: str) -> None:
    exported = load_file(two_ranks / name / "exported" / "model.safetensors")
    sent = load_file(two_ranks / name / "weights.safetensors")
    if name == "lora, adapters":
        merging = Merging(LoraSettings(rank=4).scale, "float32", BaseWeights(tiny_model).fingerprint)
        sent = dict(merged_weights(tiny_model, sent.items(), merging, torch.device("cpu")))
    assert exported.keys() == sent.keys()
    for key, tensor in sent.items():
        assert torch.equal(exported[key], tensor), key
