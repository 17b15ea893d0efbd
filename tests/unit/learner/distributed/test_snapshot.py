"""Snapshots: the bits of the weights, in host memory, with no more beside them than a piece."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from benchmarks.processes import peak_bytes, resident_bytes
from benchmarks.snapshot import Shardable, ShardablePolicy
from learner.distributed import ranks
from learner.errors import SnapshotError
from learner.model import snapshot
from learner.model.snapshot import Snapshot, take
from learner.model.stripes import stripes
from tests.unit.learner.distributed.two_ranks import join

CPU = torch.device("cpu")
VOCABULARY, HIDDEN = 300_001, 64
#: Both embeddings in bfloat16, which is what the first rank keeps.
KEPT = 2 * 2 * VOCABULARY * HIDDEN
PIECE = 2**20
pytestmark = pytest.mark.timeout(400)


def _policy() -> ShardablePolicy:
    """Rows that do not divide evenly, of which the second rank has none, that are matrices; a large vocabulary."""
    torch.manual_seed(0)
    layers = [nn.Linear(5, 7), nn.Linear(3, 1), nn.Conv2d(2, 3, 4)]
    return ShardablePolicy(Shardable(layers, nn.Embedding(VOCABULARY, HIDDEN), nn.Embedding(VOCABULARY, HIDDEN)))


def _rank(rank: int, port: int, folder: Path) -> None:
    join(rank, port, 120)
    policy = _policy()
    ranks.shard(policy, torch.bfloat16)
    found: dict[str, bool] = {}
    for piece in (64, 200, PIECE):
        snapshot.PIECE_BYTES = piece
        small = [(name, t) for name, t in policy.named() if piece == PIECE or name.startswith("layers")]
        for dtype in (torch.bfloat16, torch.float32):
            full = {name: t.full_tensor().to(dtype) for name, t in small}  # type: ignore[attr-defined]
            mine = dict(take(small, dtype, CPU))
            same = all(torch.equal(mine[name], full[name]) for name in mine)
            found[f"{piece} {dtype}"] = same and len(mine) == (len(full) if rank == 0 else 0)
            keepers = stripes([t.nbytes for t in full.values()], list(full), 2)
            kept = dict(take(small, dtype, CPU, keepers=keepers))
            own = [name for name, keeper in zip(full, keepers, strict=True) if keeper == rank]
            found[f"{piece} {dtype}, shared out"] = bool(own) and list(kept) == own
            found[f"{piece} {dtype}, shared out, bits"] = all(torch.equal(kept[name], full[name]) for name in own)
    del full, mine, kept
    tensors = policy.named()
    told: dict[str, Any] = {"found": found}
    halves = stripes([t.nbytes for _, t in tensors], [name for name, _ in tensors], 2)
    for name, keepers in (("first", None), ("halves", halves)):
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # or the heap might shrink meanwhile by what earlier copies have left
        take(tensors, torch.bfloat16, CPU, keepers=keepers)  # buffers of pieces are there from now on
        dist.barrier()
        Path("/proc/self/clear_refs").write_text("5")  # the peak is that of what follows
        before = resident_bytes()
        copies = take(tensors, torch.bfloat16, CPU, keepers=keepers)
        told[name] = {"grown": peak_bytes(os.getpid()) - before, "copies": len(copies)}
        del copies
    (folder / f"rank-{rank}.json").write_text(json.dumps(told))
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("snapshots")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(_rank, args=(port, folder), nprocs=2)  # type: ignore[no-untyped-call]
    return [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(2)]


def test_the_first_rank_has_the_bits_of_what_was_gathered_whole_and_cast(taken: list[dict[str, Any]]) -> None:
    for rank in taken:
        assert len(rank["found"]) == 18
        assert all(rank["found"].values()), rank["found"]
    assert [bool(rank["first"]["copies"]) for rank in taken] == [True, False]
    assert all(rank["halves"]["copies"] for rank in taken)


def test_no_rank_holds_more_than_pieces_beside_what_it_keeps(taken: list[dict[str, Any]]) -> None:
    """A tensor is 38 MB in bfloat16 and 77 MB in float32: one that is gathered whole does not fit in between."""
    first, second = (rank["first"]["grown"] for rank in taken)
    assert 0.9 * KEPT < first < KEPT + 0.25 * KEPT
    assert second < 0.25 * KEPT
    for rank in taken:
        assert 0.45 * KEPT < rank["halves"]["grown"] < 0.5 * KEPT + 0.25 * KEPT


def test_later_changes_leave_a_snapshot_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "PIECE_BYTES", 8)
    tensors = [("scalar", torch.tensor(2.0)), ("empty", torch.ones(0, 3)), ("matrix", torch.arange(12.0).view(4, 3))]
    expected = [(name, tensor.clone()) for name, tensor in tensors]
    kept = take(tensors, torch.float32, CPU)
    for _, tensor in tensors:
        tensor.add_(1)
    for (name, copy), (same, tensor) in zip(kept, expected, strict=True):
        assert name == same
        assert torch.equal(copy, tensor)
        assert copy.shape == tensor.shape


class _Event:
    """Over after some questions."""

    def __init__(self, questions: float) -> None:
        self.left = questions

    def query(self) -> bool:
        self.left -= 1
        return self.left < 0


def test_reading_waits_until_the_copies_are_made() -> None:
    event = _Event(3)
    kept = Snapshot([("w", torch.ones(1))], event)
    assert len(kept) == 1
    assert event.left == 3, "its length is known before"
    assert [name for name, _ in kept] == ["w"]
    assert event.left == -1


def test_a_conversion_runs_once_behind_the_copies() -> None:
    event, seen = _Event(3), []

    def halves(tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        for name, tensor in tensors:
            seen.append((name, event.left))
            yield from ((f"{name}.{i}", half) for i, half in enumerate(tensor.chunk(2)))

    kept = Snapshot([("v", torch.arange(4)), ("w", torch.ones(2))], event, halves)
    assert event.left == 3
    assert len(kept) == 4
    assert [name for name, _ in kept] == ["v.0", "v.1", "w.0", "w.1"]
    assert kept[1][1].tolist() == [2, 3]
    assert seen == [("v", -1), ("w", -1)]


def test_a_copy_that_does_not_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "COPY_SECONDS", 0.01)
    with pytest.raises(SnapshotError, match="resume"):
        Snapshot([("w", torch.ones(1))], _Event(float("inf")))[0]
