"""Checkpoints of two Gloo ranks: what both wrote, as both see it, or none."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import threading
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file, save_file
from torch.distributed.checkpoint import FileSystemWriter
from torch.distributed.tensor import DTensor

from learner import CheckpointError, LearnerConfig, OptimizerConfig, Trainer, checkpoint
from learner.batch import load_groups, save_groups
from learner.checkpoint import Writer
from learner.extra import damage, newest_whole
from learner.files import tidy
from learner.staging import PinnedStager
from tests.unit.learner.conftest import GroupFactory
from tests.unit.learner.distributed.two_ranks import free_port, join

CONFIG = LearnerConfig(
    dtype="float32", device="cpu", optimizer=OptimizerConfig(learning_rate=1e-3), checkpoint_keep_last=9
)
CPU = torch.device("cpu")
SECONDS = 120.0
#: The second rank's.
SHARD = "__1_0.distcp"
HARMS: dict[str, Callable[[Path, Path], object]] = {
    "missing": lambda shard, _: shard.unlink(),
    "truncated": lambda shard, _: shard.write_bytes(shard.read_bytes()[:-9]),
    "of another step": lambda shard, other: shutil.copy(other, shard),
}
pytestmark = pytest.mark.timeout(400)


def _name(step: int) -> str:
    return f"step-{step:06d}"


def _state(trainer: Trainer) -> list[torch.Tensor]:
    """This rank's shards of weights and moments."""
    moments = [tensor for state in trainer.optimizer.state.values() for tensor in state.values()]
    tensors = [*trainer.model.parameters(), *moments]
    return [(t.to_local() if isinstance(t, DTensor) else t).detach().clone() for t in tensors]


def _write(rank: int, port: int, model: Path, folder: Path) -> None:
    """Three checkpoints that are whole, one that a node sees otherwise, and one in the middle of which a rank dies."""
    join(rank, port, SECONDS)
    place, batches = folder / "checkpoints", [load_groups(folder / f"batch-{step}.npz") for step in range(3)]
    trainer = Trainer(CONFIG, model, seed=0)
    trainer._writer = Writer(PinnedStager(CPU))
    trainer.train_step(batches[0])
    trainer.save(place / _name(1), {"n": 1})
    trainer.train_step(batches[1])
    _save_beside_a_step(trainer, place / _name(2), batches[2])
    sent = dict(trainer.snapshot())
    if rank == 0:
        save_file(sent, folder / "weights.safetensors")
    _save_on_a_node_that_sees_other_bytes(trainer, place / _name(3), rank, folder)
    dist.barrier()
    write = FileSystemWriter.write_data

    def killed(writer: Any, *arguments: Any) -> Any:
        if rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return write(writer, *arguments)

    FileSystemWriter.write_data = killed  # type: ignore[method-assign]
    trainer.save(place / _name(4), {"n": 4})


def _save_beside_a_step(trainer: Trainer, place: Path, batch: Any) -> None:
    """A step begins and ends between the beginning of a checkpoint and the first byte of it; the state is as before."""
    before, write = _state(trainer), FileSystemWriter.write_data
    reached, stepped = threading.Event(), threading.Event()

    def held(writer: Any, *arguments: Any) -> Any:
        reached.set()
        assert stepped.wait(SECONDS)
        return write(writer, *arguments)

    FileSystemWriter.write_data = held  # type: ignore[method-assign]
    saved = trainer.save_async(place, {"n": 2})
    assert reached.wait(SECONDS)
    trainer.train_step(batch)
    stepped.set()
    saved.result(SECONDS)
    FileSystemWriter.write_data = write  # type: ignore[method-assign]
    assert any(not torch.equal(a, b) for a, b in zip(before, _state(trainer), strict=True)), "nothing was learned"
    trainer.load(place)
    assert all(torch.equal(a, b) for a, b in zip(before, _state(trainer), strict=True))


def _save_on_a_node_that_sees_other_bytes(trainer: Trainer, place: Path, rank: int, folder: Path) -> None:
    """The second rank's file changes between its own look at it and the first one's."""
    hashes = checkpoint._own_files

    def changed(staging: Path) -> Any:
        own = hashes(staging)
        if rank == 1:
            content = bytearray((staging / SHARD).read_bytes())
            content[len(content) // 2] ^= 1
            (staging / SHARD).write_bytes(content)
        return own

    checkpoint._own_files = changed
    try:
        trainer.save(place, {"n": 3})
    except CheckpointError as error:
        (folder / f"stale-{rank}.txt").write_text(str(error))
    checkpoint._own_files = hashes


def _read(rank: int, port: int, model: Path, folder: Path) -> None:
    """Each harmed checkpoint is tried, then the ones that are whole."""
    join(rank, port, SECONDS)
    trainer = Trainer(CONFIG, model, seed=1)
    said = {}
    good = folder / "checkpoints" / _name(2)
    for name, seen in {**{harm: [folder / harm] * 2 for harm in HARMS}, "one node": [good, folder / "missing"]}.items():
        try:
            trainer.load(seen[rank])
        except CheckpointError as error:
            said[name] = str(error)
    (folder / f"said-{rank}.json").write_text(json.dumps(said))
    assert trainer.load(folder / "checkpoints" / _name(1)) == {"n": 1}
    assert trainer.load(good) == {"n": 2}
    sent = dict(trainer.snapshot())
    if rank == 0:
        save_file(sent, folder / "resumed.safetensors")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def written(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory, make_groups: GroupFactory) -> Path:
    """A folder in which two ranks wrote checkpoints, until the second was killed in the middle of one."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for step in range(3):
        save_groups(make_groups(seed=step, version=step), folder / f"batch-{step}.npz")
    spawn, port = get_context("spawn"), free_port()
    both = [spawn.Process(target=_write, args=(rank, port, tiny_model, folder)) for rank in range(2)]
    for process in both:
        process.start()
    try:
        both[1].join(300)
        assert both[1].exitcode == -signal.SIGKILL
    finally:
        for process in both:  # the first waits for the other, as in a run, whose supervisor ends it
            process.kill()
            process.join(30)
    return folder


@pytest.fixture(scope="module")
def said(written: Path, tiny_model: Path) -> list[dict[str, str]]:
    """What each of two new ranks said of harmed copies of the second checkpoint, before they resumed from it."""
    good = written / "checkpoints" / _name(2)
    for name, harm in HARMS.items():
        shutil.copytree(good, written / name)
        harm(written / name / SHARD, written / "checkpoints" / _name(1) / SHARD)
    mp.spawn(_read, (free_port(), tiny_model, written), nprocs=2)  # type: ignore[no-untyped-call]
    return [json.loads((written / f"said-{rank}.json").read_text()) for rank in range(2)]


def test_a_rank_that_is_killed_while_it_writes_leaves_the_checkpoint_before(
    written: Path, said: list[dict[str, str]]
) -> None:
    assert len(said) == 2
    place = written / "checkpoints"
    assert (place / f".{_name(4)}.tmp").is_dir(), "it was not killed in the middle"
    tidy(place)
    assert newest_whole(place) == (2, place / _name(2))
    assert damage(place / _name(2), contents=True) is None
    kept, resumed = (load_file(written / f"{name}.safetensors") for name in ("weights", "resumed"))
    assert kept.keys() == resumed.keys()
    assert [name for name in kept if not torch.equal(kept[name], resumed[name])] == []


def test_what_another_node_sees_otherwise_is_never_called_durable(written: Path) -> None:
    for rank in range(2):
        text = (written / f"stale-{rank}.txt").read_text()
        assert "step-000003" in text and f"{SHARD} holds other bytes than rank 1 has written" in text
        assert "rank 0 on" in text, "who saw it"
    assert not list((written / "checkpoints").glob("*step-000003*"))


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        ("missing", f"{SHARD} is missing"),
        ("truncated", f"{SHARD} has "),
        ("of another step", f"{SHARD} holds other bytes than were written"),
        ("one node", f"rank 1 on {socket.gethostname()}: {SHARD} is missing"),
    ],
)
def test_a_shard_that_is_not_the_one_that_was_written_is_named_on_every_rank(
    said: list[dict[str, str]], harm: str, words: str
) -> None:
    for rank in said:
        assert words in rank[harm]
        assert "resumes from the one before" in rank[harm]


def test_the_harmed_shard_of_another_step_has_the_size_of_the_right_one(written: Path) -> None:
    """Or the test above would show less than it says."""
    sizes = {(written / "checkpoints" / _name(step) / SHARD).stat().st_size for step in (1, 2)}
    assert len(sizes) == 1
