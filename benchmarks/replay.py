"""`python -m benchmarks replay`: groups through the replay, beside bare pyzmq, a plain file and Ray's queue.

All contenders of a size are served at the same time and take rounds in turn, so that what else the machine does hits
them alike; only ratios of one run mean anything.
"""

from __future__ import annotations

import json as jsonlib
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from rich import box
from rich.table import Table

from actors.config.roles import JournalConfig
from benchmarks.processes import cpu_seconds, resident_bytes
from benchmarks.replay_load import Bare, Contender, Idle, Replay, Size, served
from benchmarks.terminal import console, say

SMALL, LARGE = Size("small, 8 x 200 tokens", 8, 200, 128), Size("large, 16 x 16k tokens", 16, 16_384, 8)
TINY = Size("tiny, 2 x 20 tokens", 2, 20, 16)
#: What the journal can be told, the cheapest first.
DURABILITIES = tuple(reversed(get_args(JournalConfig.model_fields["durability"].annotation)))
#: Targets of large groups: our share of what each peer moves in the same time.
TARGETS = {"bare pyzmq": 0.6, "ray.util.queue": 20.0}
VIEWS = "bare pyzmq, no copies"
CLIENTS, HELD = (1, 10, 100, 1000), (0, 1000, 10_000, 100_000)
#: Groups that are submitted one after another for each line of the growth tables, and their rate (groups/s).
SUBMISSIONS, RATE = 400, 100.0


@dataclass(frozen=True, slots=True)
class Row:
    """What one contender did with groups of one size.

    Attributes:
        size, name: of the groups, of the contender.
        groups: that went all the way.
        seconds: that they took.
        group_bytes: of one group.
        cpu_seconds: of the server, for all of them; 0 where it is no process of its own.
        p50, p99: of a submission by itself, from its lease to its confirmation (s).
    """

    size: str
    name: str
    groups: int
    seconds: float
    group_bytes: int
    cpu_seconds: float = 0.0
    p50: float = 0.0
    p99: float = 0.0

    @property
    def groups_per_second(self) -> float:
        return self.groups / self.seconds

    @property
    def megabytes_per_second(self) -> float:
        return self.groups_per_second * self.group_bytes / 1e6

    def report(self) -> dict[str, Any]:
        """For JSON."""
        rates = {"groups_per_second": self.groups_per_second, "megabytes_per_second": self.megabytes_per_second}
        return asdict(self) | rates


@dataclass(frozen=True, slots=True)
class Growth:
    """Submissions at a steady rate while the server has `count` idle clients, or holds `count` groups.

    Attributes:
        count: of what grows.
        p50, p99: of a submission (s).
        memory: resident memory of the server (bytes).
    """

    count: int
    p50: float
    p99: float
    memory: int


def run(json: Path | None = None, seconds: float = 10.0, *, growth: bool = True, ray: bool = True) -> None:
    """Measure everything, and print it.

    Args:
        json: where to write the figures, too.
        seconds: how long each contender runs with each size.
        growth: whether to measure with many clients and many groups.
        ray: whether to measure Ray's queue, which starts a cluster.
    """
    with _ray_cluster() if ray else nullcontext():
        rows = [row for size in (SMALL, LARGE) for row in throughput(size, seconds, ray=ray)]
    console.print(throughput_table(rows))
    for line in verdicts(rows):
        say(line)
    tables: dict[str, list[Growth]] = {}
    if growth:
        for name, measure in (("idle clients", _with_clients), ("groups held", _with_held)):
            tables[name] = measure()
            console.print(growth_table(name, tables[name]))
    if json is not None:
        report = {
            "machine": {"cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()},
            "load_average": os.getloadavg(),
            "throughput": [row.report() for row in rows],
            "growth": {name: [asdict(row) for row in found] for name, found in tables.items()},
        }
        json.write_text(jsonlib.dumps(report, indent=2) + "\n", encoding="utf-8")


# ---------------------------------------------------------------- throughput


def throughput(size: Size, seconds: float, *, ray: bool) -> list[Row]:
    """Rounds of every contender in turn, and submissions one at a time."""
    with ExitStack() as stack:
        contenders: dict[str, Contender] = {}
        for durability in DURABILITIES:
            contenders[f"ours, journal {durability}"] = stack.enter_context(_ours(size, durability))
        first = next(iter(contenders.values()))
        assert isinstance(first, Replay)
        first.round()
        contenders["bare pyzmq"] = Bare(stack.enter_context(served("bare", "copy")), size, first.first)
        contenders[VIEWS] = Bare(stack.enter_context(served("bare", "view")), size, first.first, copy=False)
        contenders |= {
            f"plain file, {name}": _File(stack, size, sync) for name, sync in (("buffered", False), ("fsync", True))
        }
        if ray:
            contenders["ray.util.queue"] = _RayQueue(size)
        for contender in contenders.values():
            contender.round()
        before = {name: cpu_seconds(contender.pid) for name, contender in contenders.items()}
        taken = take_turns({name: contender.round for name, contender in contenders.items()}, seconds)
        cpu = {name: cpu_seconds(contender.pid) - before[name] for name, contender in contenders.items()}
        latencies = {name: _latencies(c.submit, 20 if size is LARGE else 200) for name, c in contenders.items()}
    return [
        Row(size.name, name, rounds * size.groups, spent, size.group_bytes, cpu[name], *percentiles(latencies[name]))
        for name, (rounds, spent) in taken.items()
    ]


def take_turns(rounds: Mapping[str, Callable[[], None]], seconds: float) -> dict[str, tuple[int, float]]:
    """Run each in turn until each has had its time; by name, how many rounds it took and how long they lasted (s)."""
    taken = dict.fromkeys(rounds, (0, 0.0))
    while unfinished := [name for name, (_, spent) in taken.items() if spent < seconds]:
        for name in unfinished:
            start = time.perf_counter()
            rounds[name]()
            count, spent = taken[name]
            taken[name] = count + 1, spent + time.perf_counter() - start
    return taken


def _latencies(submit: Callable[[], None], count: int, rate: float | None = None) -> list[float]:
    """Times of submissions one after another (s), at a rate a second if there is one."""
    found, due = [], time.perf_counter()
    for _ in range(count):
        if rate is not None:
            due += 1 / rate
            time.sleep(max(0.0, due - time.perf_counter()))
        start = time.perf_counter()
        submit()
        found.append(time.perf_counter() - start)
    return found


def percentiles(values: Sequence[float]) -> tuple[float, float]:
    """Median and 99th percentile."""
    return float(np.percentile(values, 50)), float(np.percentile(values, 99))


@contextmanager
def _ours(size: Size, durability: str, max_staleness: int = 1_000_000) -> Iterator[Replay]:
    overrides = (
        f"replay.group_size={size.completions}",
        f"replay.groups_per_batch={size.groups}",
        f"replay.max_staleness={max_staleness}",
        f"replay.journal.durability={durability}",
        "membership.timeout_seconds=3600",
    )
    with tempfile.TemporaryDirectory(dir=_disk()) as folder, served("ours", folder, *overrides) as server:
        yield Replay(server, size)


def _disk() -> Path:
    """A folder on a disk: temporary files may be in memory, where nothing has to be written."""
    folder = Path("runs").absolute()
    folder.mkdir(exist_ok=True)
    return folder


class _File:
    """A plain file that gets the bytes of each group as it is submitted; with `sync` a round is durable."""

    pid = 0

    def __init__(self, stack: ExitStack, size: Size, sync: bool) -> None:
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir=_disk()))
        self._file = stack.enter_context((Path(folder) / "groups").open("wb", buffering=0))
        arrays = b"".join(array.tobytes() for array in size.payload().arrays().values())
        self._group, self._size, self._sync = arrays + "".join(size.texts()).encode(), size, sync

    def round(self) -> None:
        self._write(self._size.groups)

    def submit(self) -> None:
        self._write(1)

    def _write(self, groups: int) -> None:
        for _ in range(groups):
            self._file.write(self._group)
        if self._sync:
            os.fdatasync(self._file.fileno())
        if self._file.tell() > 2**30:
            self._file.seek(0)


@contextmanager
def _ray_cluster() -> Iterator[None]:
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        yield
    finally:
        ray.shutdown()


class _RayQueue:
    """Every group goes into Ray's queue once, and comes out once."""

    pid = 0

    def __init__(self, size: Size) -> None:
        from ray.util.queue import Queue

        self._queue, self._size = Queue(), size
        self._group = size.payload().arrays() | {"texts": size.texts()}

    def round(self) -> None:
        for _ in range(self._size.groups):
            self._queue.put(self._group)
        for _ in range(self._size.groups):
            self._queue.get()

    def submit(self) -> None:
        self._queue.put(self._group)


# ---------------------------------------------------------------- growth


def _with_clients() -> list[Growth]:
    found = []
    for count in CLIENTS:
        with _ours(TINY, "off") as replay:
            idle, numbers = Idle(replay.server.address, count - 1), iter(range(10**9))

            def submit(replay: Replay = replay, idle: Idle = idle, numbers: Iterator[int] = numbers) -> None:
                idle.beat(next(numbers))
                replay.submit()

            _latencies(submit, 50)
            found.append(Growth(count, *percentiles(_latencies(submit, SUBMISSIONS, RATE)), resident_bytes(replay.pid)))
            idle.close()
    return found


def _with_held() -> list[Growth]:
    found = []
    with _ours(TINY, "off", max_staleness=10_000_000) as replay:
        held = 0
        for count in HELD:
            replay.hold(count - held)
            held = count
            _latencies(replay.submit, 50)
            times = _latencies(replay.submit, SUBMISSIONS, RATE)
            found.append(Growth(count, *percentiles(times), resident_bytes(replay.pid)))
    return found


# ---------------------------------------------------------------- tables


def throughput_table(rows: Sequence[Row]) -> Table:
    """Rates of all contenders, with their share of bare pyzmq's."""
    table = Table(box=box.SIMPLE_HEAD, title="Groups from generator through verifier to learner")
    for head in ("", "groups/s", "MB/s", "of bare", "CPU ms", "p50 ms", "p99 ms"):
        table.add_column(head, justify="right" if head else "left")
    for size in dict.fromkeys(row.size for row in rows):
        table.add_row(f"[bold]{size}")
        ofsize = [row for row in rows if row.size == size]
        bare = next((row for row in ofsize if row.name == "bare pyzmq"), None)
        for row in ofsize:
            share = f"{row.groups_per_second / bare.groups_per_second:.2f}" if bare else ""
            cpu = f"{1e3 * row.cpu_seconds / row.groups:.2f}" if row.cpu_seconds else ""
            numbers = (f"{row.groups_per_second:,.0f}", f"{row.megabytes_per_second:,.0f}", share, cpu)
            table.add_row(row.name, *numbers, f"{1e3 * row.p50:.2f}", f"{1e3 * row.p99:.2f}")
    return table


def verdicts(rows: Sequence[Row]) -> list[str]:
    """What the large groups' ratios say of the targets."""
    rate = {row.name: row.groups_per_second for row in rows if row.size == LARGE.name}
    lines = []
    for durability in DURABILITIES:
        own = rate.get(f"ours, journal {durability}")
        peers = {name: target for name, target in TARGETS.items() if name in rate and durability == "off"}
        if f"plain file, {durability}" in rate:
            slower = min(("bare pyzmq", f"plain file, {durability}"), key=lambda name: rate.get(name, 0.0))
            peers[slower] = TARGETS["bare pyzmq"]
        for peer, target in peers.items():
            if own is not None and peer in rate:
                ratio = own / rate[peer]
                reached = "reached" if ratio >= target else "missed"
                lines.append(f"large groups, journal {durability}: {ratio:.2f} of {peer}; target {target:g}: {reached}")
    return lines


def growth_table(name: str, rows: Sequence[Growth]) -> Table:
    """How long a submission takes while something grows."""
    table = Table(box=box.SIMPLE_HEAD, title=f"A submission at {RATE:g}/s, by {name}")
    for head in (name, "p50 ms", "p99 ms", "memory MB"):
        table.add_column(head, justify="right")
    for row in rows:
        table.add_row(f"{row.count:,}", f"{1e3 * row.p50:.2f}", f"{1e3 * row.p99:.2f}", f"{row.memory / 1e6:,.0f}")
    return table
