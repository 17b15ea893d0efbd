"""`python -m benchmarks weights`: an update from the learner's tensors to engines that hold it, beside bare broadcasts.

Learner and engines are processes of this machine: the publisher here, `transformers` engines, which take weights in
their own process, there. The bare broadcast has the same processes, the same Gloo and the same bytes in buckets of the
same size, into memory that is there already: nothing is announced, packed, checked or swapped in.
"""

import json as jsonlib
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich import box
from rich.table import Table
from transformers import AutoModelForCausalLM

from actors.config.network import NetworkConfig
from actors.config.roles import WeightsConfig
from actors.events import WeightSync
from actors.transport.address import resolve, split
from actors.transport.store import serve_store
from actors.weights import gloo
from actors.weights.background import in_background
from actors.weights.buckets import Parameter, buckets, size_of
from actors.weights.group import GroupRank
from actors.weights.publisher import Publisher
from benchmarks.models import small_llama
from benchmarks.terminal import console, say
from benchmarks.weight_receivers import ReceiverProcess

#: 134 million parameters in the proportions of SmolLM2-135M.
SHAPE = {
    "hidden_size": 576,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "intermediate_size": 1536,
    "tie_word_embeddings": True,
}
VOCABULARY = 49152
DEADLINE_SECONDS = 120.0

Tensors = list[tuple[str, torch.Tensor]]


@dataclass(frozen=True, slots=True)
class Update:
    """Seconds of one update and of the bare broadcast beside it.

    Attributes:
        total: from `publish` until every engine generates with the version.
        transfer: of it, from the announcement to the last byte.
        pause: the longest that an engine did not generate.
        hold: how long the learner's thread was kept, by the copy of its weights and by `publish`.
        bare: of the bare broadcast.
    """

    total: float
    transfer: float
    pause: float
    hold: float
    bare: float


@dataclass(frozen=True, slots=True)
class Row:
    """Medians over the updates to so many receivers; shares are of the seconds that an update took."""

    receivers: int
    bytes: int
    bytes_per_second: float
    share_of_bare: float
    pause_share: float
    hold_share: float


class Learner:
    """The sending side: weights, and a publisher for the receivers of one row."""

    def __init__(self, model: Path, receivers: list[ReceiverProcess], bucket_bytes: int) -> None:
        policy = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16)
        self._tensors: Tensors = [(name, parameter.detach()) for name, parameter in policy.named_parameters()]
        self._receivers, self._node = receivers, resolve(NetworkConfig(), in_cluster=False)
        self._syncs: list[WeightSync] = []
        self._bucket_bytes = bucket_bytes
        self._publisher = Publisher(
            WeightsConfig(bucket_bytes=bucket_bytes, deadline_seconds=DEADLINE_SECONDS),
            self._node,
            torch.bfloat16,
            alive=lambda: frozenset(receiver.name for receiver in receivers),
            timeout_seconds=DEADLINE_SECONDS,
            on_sync=self._syncs.append,
        )
        self.bytes = sum(tensor.nbytes for _, tensor in self._tensors)

    def subscribe(self) -> None:
        """Have every receiver take a first version, by which the group of the later ones is formed."""
        for receiver in self._receivers:
            receiver.ask("subscribed", "subscribe", self._publisher.endpoint, DEADLINE_SECONDS)
        self._publish(0)

    def _publish(self, version: int) -> float:
        start = time.perf_counter()
        self._publisher.publish(version, [(name, tensor.clone()) for name, tensor in self._tensors])
        held = time.perf_counter() - start
        while not (self._syncs and self._syncs[-1].version == version and self._syncs[-1].members == self._all):
            if not self._publisher.wait(version, DEADLINE_SECONDS):
                raise RuntimeError(f"version {version} did not reach every receiver")
        return held

    @property
    def _all(self) -> int:
        return len(self._receivers)

    def measure(self, version: int) -> Update:
        bare = self._bare()
        held = self._publish(version)
        sync = self._syncs[-1]
        return Update(sync.total_seconds, sync.transfer_seconds, sync.pause_seconds, held, bare)

    def _bare(self) -> float:
        """Seconds of a broadcast of the same bytes in the same buckets, and nothing else."""
        parameters = [Parameter(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in self._tensors]
        sizes = [size_of(bucket) for bucket in buckets(parameters, self._bucket_bytes)]
        world = 1 + self._all
        store, address = serve_store(self._node, world, DEADLINE_SECONDS)
        for rank, receiver in enumerate(self._receivers, 1):
            receiver.pipe.send(("bare", *split(address), rank, world, sizes, DEADLINE_SECONDS))
        memory = torch.zeros(max(sizes), dtype=torch.uint8)
        first = GroupRank(store, 0, world, self._node.advertise, torch.device("cpu"), DEADLINE_SECONDS)
        group = in_background(lambda: gloo.join(first), "bare-rendezvous").result(DEADLINE_SECONDS)
        group.broadcast(memory[:1], 0).wait()  # everyone is ready
        start = time.perf_counter()
        for size in sizes:
            group.broadcast(memory[:size], 0).wait()
        for receiver in self._receivers:
            receiver.answer("bare", DEADLINE_SECONDS)
        return time.perf_counter() - start

    def close(self) -> None:
        self._publisher.close()


def run(json: Path | None, receivers: list[int], updates: int, bucket_bytes: int) -> list[Row]:
    """Measure with each number of receivers, and print a table."""
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        model = small_llama(Path(folder) / "model", VOCABULARY, **SHAPE)
        for count in receivers:
            processes = [ReceiverProcess(model, f"receiver-{number}") for number in range(count)]
            learner = Learner(model, processes, bucket_bytes)
            try:
                learner.subscribe()
                found = [learner.measure(version) for version in range(1, updates + 1)]
            finally:
                learner.close()
                for process in processes:
                    process.end()
            rows.append(row(count, learner.bytes, found))
            say(f"{count} receivers: {found[-1]}")
    console.print(table(rows, updates))
    if json:
        json.write_text(jsonlib.dumps([asdict(made) for made in rows], indent=2))
    return rows


def row(receivers: int, size: int, updates: list[Update]) -> Row:
    """The medians; each update is compared with the bare broadcast right before it."""
    return Row(
        receivers,
        size,
        statistics.median(size / update.total for update in updates),
        statistics.median(update.bare / update.total for update in updates),
        statistics.median(update.pause / update.transfer for update in updates),
        statistics.median(update.hold / update.total for update in updates),
    )


def table(rows: list[Row], updates: int) -> Table:
    made = Table(
        *("receivers", "MB", "MB/s", "of bare", "pause/transfer", "learner held"),
        title=f"one update, from publish to every engine; medians of {updates}",
        box=box.SIMPLE,
        padding=(0, 0),
    )
    for found in rows:
        made.add_row(
            str(found.receivers),
            f"{found.bytes / 1e6:.0f}",
            f"{found.bytes_per_second / 1e6:.0f}",
            f"{found.share_of_bare:.0%}",
            f"{found.pause_share:.0%}",
            f"{found.hold_share:.0%}",
        )
    return made
