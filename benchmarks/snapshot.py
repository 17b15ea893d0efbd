"""`python -m benchmarks snapshot`: what a snapshot of two ranks costs, beside gathering each tensor in float32.

A model with a large vocabulary is sharded over two Gloo ranks. Memory is the first rank's peak above what it had, with
the copies that it keeps; the hold-up is how long its next step would wait. Both ways in turn, several times.
"""

import json as jsonlib
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from rich import box
from rich.table import Table
from torch import Tensor, nn

from benchmarks.processes import peak_bytes, resident_bytes
from benchmarks.terminal import console
from learner.distributed import ranks
from learner.model.snapshot import take

VOCABULARY, HIDDEN, LAYERS = 100_000, 512, 4
ROUNDS = 7
DEADLINE_SECONDS = 300.0
DTYPE = torch.bfloat16
CPU = torch.device("cpu")


class Shardable(nn.Module):
    """The parts of a model that `ranks.shard` and a snapshot look at."""

    def __init__(self, layers: Sequence[nn.Module], embedding: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.layers, self.embedding, self.head = nn.ModuleList(layers), embedding, head

    @property
    def base_model(self) -> nn.Module:
        return self


class ShardablePolicy(nn.Module):
    """A policy of such a model."""

    def __init__(self, model: Shardable) -> None:
        super().__init__()
        self.model = model

    def named(self) -> list[tuple[str, Tensor]]:
        return [(name, p.detach()) for name, p in self.model.named_parameters()]


def whole(tensors: list[tuple[str, Tensor]]) -> list[tuple[str, Tensor]]:
    """As it was: every rank gathers each tensor in float32, and the first one casts and copies it."""
    mine = ranks.rank() == 0
    return [(name, full.clone()) for name, tensor in tensors for full in [ranks.full_tensor(tensor).to(DTYPE)] if mine]


def pieces(tensors: list[tuple[str, Tensor]]) -> Any:
    """As it is."""
    return take(tensors, DTYPE, CPU)


WAYS: tuple[Callable[[list[tuple[str, Tensor]]], Any], ...] = (whole, pieces)


def measure(way: Callable[[list[tuple[str, Tensor]]], Any], tensors: list[tuple[str, Tensor]]) -> dict[str, float]:
    """Seconds, peak above what was resident, and bytes kept."""
    dist.barrier()
    Path("/proc/self/clear_refs").write_text("5")  # the peak is that of what follows
    before, start = resident_bytes(), time.perf_counter()
    kept = way(tensors)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "peak": peak_bytes(os.getpid()) - before, "kept": sum(t.nbytes for _, t in kept)}


def rank(number: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", 2)
    dist.init_process_group("gloo", store=store, rank=number, world_size=2)
    torch.manual_seed(0)
    layers = [nn.Linear(HIDDEN, 4 * HIDDEN) for _ in range(LAYERS)]
    head = nn.Linear(HIDDEN, VOCABULARY, bias=False)
    policy = ShardablePolicy(Shardable(layers, nn.Embedding(VOCABULARY, HIDDEN), head))
    ranks.shard(policy, DTYPE)
    tensors = policy.named()
    found: dict[str, list[dict[str, float]]] = {way.__name__: [] for way in WAYS}
    for _ in range(ROUNDS):
        for way in WAYS:
            found[way.__name__].append(measure(way, tensors))
    Path(folder, f"rank-{number}.json").write_text(jsonlib.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


def run(json: Path | None = None) -> None:
    """Print the median of each way on either rank, and their ratios."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        processes = [context.Process(target=rank, args=(number, folder), daemon=True) for number in range(2)]
        for process in processes:
            process.start()
        due = time.monotonic() + DEADLINE_SECONDS
        for process in processes:
            process.join(max(0.0, due - time.monotonic()))
            if process.exitcode != 0:
                raise SystemExit(f"a rank ended with {process.exitcode}, or not within {DEADLINE_SECONDS:g} s")
        found = [jsonlib.loads(Path(folder, f"rank-{number}.json").read_text()) for number in range(2)]
    table = Table("", "kept (MB)", "peak above resident (MB)", "hold-up (s)", box=box.SIMPLE)
    middle = [
        {way: {key: statistics.median(r[key] for r in rounds) for key in rounds[0]} for way, rounds in each.items()}
        for each in found
    ]
    for number, each in enumerate(middle):
        for way, row in each.items():
            table.add_row(
                f"rank {number}, {way}", f"{row['kept'] / 1e6:.0f}", f"{row['peak'] / 1e6:.0f}", f"{row['seconds']:.3f}"
            )
    console.print(table)
    first = middle[0]
    print(f"hold-up: {first['pieces']['seconds'] / first['whole']['seconds']:.2f} of what it was")
    if json:
        json.write_text(jsonlib.dumps(middle, indent=2))
