"""`python -m benchmarks weight-faults`: two real vLLM engines, one of which dies or stands still in a weight update.

In each trial a new version is published, and one engine is killed (SIGKILL) or suspended (SIGSTOP) before `open`,
between two steps, or during the transfer. The other has to have the version within the deadline; so has the first, once
it goes on (SIGCONT), or its replacement. A replacement is an engine that is up already and then joins: how long vLLM
takes to come up is not measured. Who is alive is decided as in a run: by heartbeats, and by the end of a process.
"""

import contextlib
import json as jsonlib
import random
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.table import Table
from transformers import AutoModelForCausalLM

from actors.config.model import TinyModel
from actors.config.network import NetworkConfig
from actors.config.roles import WeightsConfig
from actors.deadline import until
from actors.membership import Membership
from actors.models import prepare
from actors.observability import metrics
from actors.transport.address import resolve
from actors.weights.publisher import Publisher
from benchmarks.digest import digest
from benchmarks.faulty_engine import HEARTBEAT_SECONDS, STEPS, EngineProcess, preload
from benchmarks.models import CACHE
from benchmarks.terminal import console

TRANSFER = "during transfer"
ALL_STEPS = (*STEPS[:4], TRANSFER, *STEPS[4:])
ACTIONS = {"kill": signal.SIGKILL, "suspend": signal.SIGSTOP}
BUCKET_BYTES = 2**18
#: `weights.deadline_seconds` of the trials, within which every engine has to have a new version.
DEADLINE_SECONDS = 20.0
#: `membership.timeout_seconds` of the trials: so long is who stands still waited for.
TIMEOUT_SECONDS = 3.0
STARTUP_SECONDS = 300.0

Tensors = list[tuple[str, torch.Tensor]]


@dataclass(frozen=True, slots=True)
class Trial:
    """What happened: seconds to the new version, None where it did not come within the deadline.

    Attributes:
        survivor_seconds: of the other engine, from its publication.
        first_seconds: of the engine that was suspended, from SIGCONT on, or of the replacement, from when it joins.
        refusals: evictions from an update; the one that was hit is the first.
        wrong: what was wrong with the weights or the tokens afterwards; empty where nothing was.
    """

    step: str
    action: str
    survivor_seconds: float | None
    first_seconds: float | None
    refusals: int
    wrong: str

    @property
    def good(self) -> bool:
        return self.survivor_seconds is not None and self.first_seconds is not None and not self.wrong


class HookedTensors(Tensors):
    """Calls `hook` once, before tensor number `at` is sent: the first pass over an update's tensors is that for its
    metadata, the second sends them."""

    def __init__(self, tensors: Tensors, at: int, hook: Callable[[], None]) -> None:
        super().__init__(tensors)
        self._at, self._hook, self._passes = at, hook, 0

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        self._passes += 1
        hooked = self._passes == 2
        for number, item in enumerate(super().__iter__()):
            if hooked and number == self._at:
                self._hook()
            yield item


class Fleet:
    """Two engines that take weights and, with `spare`, one that stands by; and the list of who is alive."""

    def __init__(self, model: Path, endpoint: Callable[[], str], spare: bool) -> None:
        self._model, self._endpoint = model, endpoint
        self._numbers = 0
        self._membership = Membership(TIMEOUT_SECONDS)
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self.engines = [self._begin() for _ in range(2)]
        self._spares = [self._begin()] if spare else []
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def _begin(self) -> EngineProcess:
        self._numbers += 1
        return EngineProcess(self._model, f"engine-{self._numbers}", DEADLINE_SECONDS)

    def start(self) -> None:
        """Wait until the two are up, and let them subscribe."""
        self._watcher.start()
        for engine in self.engines:
            self._join(engine)

    def _join(self, engine: EngineProcess) -> None:
        if not until(lambda: engine.up or not engine.alive, STARTUP_SECONDS) or not engine.alive:
            raise RuntimeError(f"{engine.name} did not come up")
        engine.pipe.send(("subscribe", self._endpoint()))

    def replace(self, dead: EngineProcess, another: bool) -> EngineProcess:
        """Let the spare take a dead engine's place; `another` is started for the next."""
        with self._lock:
            new = self._spares.pop() if self._spares else self._begin()
            self._spares += [self._begin()] if another else []
            self.engines[self.engines.index(dead)] = new
        self._join(new)
        return new

    def alive(self) -> frozenset[str]:
        with self._lock:
            return frozenset(member.name for member in self._membership.alive("generator"))

    def _watch(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS / 4):
            with self._lock:
                now = time.monotonic()
                for engine in (*self.engines, *self._spares):
                    if engine.take():
                        self._membership.heard(engine.name, "generator", now)
                    if not engine.alive:
                        self._membership.remove(engine.name)
                self._membership.expire(now)

    def ask(self, engine: EngineProcess, answer: str, *command: Any) -> Any:
        """Send a command and wait for its answer; None where none comes within the deadline."""
        engine.heard.pop(answer, None)
        engine.pipe.send(command)
        until(lambda: answer in engine.heard, DEADLINE_SECONDS)
        return engine.heard.get(answer)

    def close(self) -> None:
        self._ended.set()
        for engine in (*self.engines, *self._spares):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                engine.signal(signal.SIGKILL)
            engine.process.kill()
            engine.process.join(10)


class Trials:
    """Two engines and a publisher, for trial after trial. `spare` where engines will be killed."""

    def __init__(self, seed: int, spare: bool, models: Path = CACHE) -> None:
        model = prepare(TinyModel(kind="tiny"), models, 0)
        self._random = random.Random(seed)
        self._spare = spare
        preload()
        policy = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
        self._base = [(name, parameter.detach()) for name, parameter in policy.named_parameters()]
        self._version = 0
        self.fleet = Fleet(model, lambda: self._publisher.endpoint, spare)
        self._publisher = Publisher(
            WeightsConfig(bucket_bytes=BUCKET_BYTES, deadline_seconds=DEADLINE_SECONDS),
            resolve(NetworkConfig(), in_cluster=False),
            torch.float32,
            alive=self.fleet.alive,
            timeout_seconds=TIMEOUT_SECONDS,
        )

    def start(self) -> None:
        """Bring the engines up, with a first version."""
        self.fleet.start()
        self._publisher.publish(0, self._tensors(0))
        for engine in self.fleet.engines:
            if self._seconds_until(engine, 0, time.monotonic()) is None:
                raise RuntimeError(f"{engine.name} did not take the first version")

    def _tensors(self, version: int) -> Tensors:
        """Weights that differ in every parameter from version to version."""
        generator = torch.Generator().manual_seed(version)
        return [(name, base + 0.1 * torch.randn(base.shape, generator=generator)) for name, base in self._base]

    def _seconds_until(self, engine: EngineProcess, version: int, since: float) -> float | None:
        left = since + DEADLINE_SECONDS - time.monotonic()
        return time.monotonic() - since if until(lambda: engine.version >= version, max(0.0, left)) else None

    def trial(self, step: str, action: str, last: bool = False) -> Trial:
        """Hit one engine at a step of the next update; `last` where nobody is killed after it."""
        self._version += 1
        version, refusals = self._version, _refusals()
        first, survivor = self._random.sample(self.fleet.engines, 2)
        number = ACTIONS[action]
        tensors = self._tensors(version)
        offered = tensors
        if step == TRANSFER:
            offered = HookedTensors(tensors, self._random.randrange(len(tensors)), lambda: first.signal(number))
        else:
            if step.endswith("open"):
                self._publisher._abort_epoch()  # an epoch of both may be open still, and would be gone on with
            self.fleet.ask(first, "armed", "arm", step, number)
        self._publisher.publish(version, offered)
        survivor_seconds = self._seconds_until(survivor, version, time.monotonic())
        until(lambda: first.name not in self.fleet.alive(), DEADLINE_SECONDS)
        if action == "kill":
            first = self.fleet.replace(first, another=self._spare and not last)
        else:
            first.signal(signal.SIGCONT)
        first_seconds = self._seconds_until(first, version, time.monotonic())
        if first_seconds is None and not first.alive:  # it could not give the update up and ended, to be replaced
            first = self.fleet.replace(first, another=self._spare and not last)
            first_seconds = self._seconds_until(first, version, time.monotonic())
        wrong = "; ".join(filter(None, (self._wrong(engine, tensors) for engine in (first, survivor))))
        return Trial(step, action, survivor_seconds, first_seconds, _refusals() - refusals, wrong)

    def _wrong(self, engine: EngineProcess, tensors: Tensors) -> str:
        """What does not fit about an engine that should hold these, and generate with them."""
        found = self.fleet.ask(engine, "inspected", "inspect")
        if found is None:
            return f"{engine.name} does not generate"
        if found["versions"] != [self._version]:
            return f"{engine.name} samples from version {found['versions']}"
        if found["digests"] != {name: digest(tensor) for name, tensor in tensors}:
            return f"{engine.name} holds other weights"
        return ""

    def close(self) -> None:
        self._publisher.close()
        self.fleet.close()


def _refusals() -> int:
    return int(sum(s.value for f in metrics.SYNC_FAILURES.collect() for s in f.samples if s.name.endswith("_total")))


def plan(trials: int, seed: int) -> list[tuple[str, str]]:
    """Every step with both actions, as evenly as the number allows, in an order of the seed's."""
    choice = random.Random(seed)
    cases: list[tuple[str, str]] = []
    while len(cases) < trials:
        everything = [(step, action) for step in ALL_STEPS for action in ACTIONS]
        choice.shuffle(everything)
        cases += everything
    return cases[:trials]


def run(json: Path | None, trials: int, seed: int) -> bool:
    """Print what happened at each step; whether every engine had every version in time, and no other."""
    cases = plan(trials, seed)
    kills = [i for i, (_, action) in enumerate(cases) if action == "kill"]
    world = Trials(seed, spare=bool(kills))
    found: list[Trial] = []
    try:
        world.start()
        for number, (step, action) in enumerate(cases):
            found.append(world.trial(step, action, last=number >= (kills or [0])[-1]))
            print(f"{number + 1}/{trials}: {found[-1]}", flush=True)
    finally:
        world.close()
    console.print(table(found, seed))
    print("other: the suspended engine from SIGCONT on, or the replacement from when it joins (it was up before)")
    if json:
        json.write_text(jsonlib.dumps([asdict(trial) for trial in found], indent=2))
    return all(trial.good for trial in found)


def table(trials: list[Trial], seed: int) -> Table:
    """One line a step and action: how many had the version in time, and the median and the longest time (s)."""
    made = Table(
        *("step", "hit by", "survivor", "s", "other", "s", "refusals"),
        title=f"seed {seed}, deadline {DEADLINE_SECONDS:g} s, heartbeat timeout {TIMEOUT_SECONDS:g} s",
        box=box.SIMPLE,
        padding=(0, 0),
    )
    for step in ALL_STEPS:
        for action in ACTIONS:
            if some := [trial for trial in trials if (trial.step, trial.action) == (step, action)]:
                made.add_row(
                    *(step, action),
                    *_times([trial.survivor_seconds for trial in some]),
                    *_times([trial.first_seconds for trial in some]),
                    str(sum(trial.refusals for trial in some)),
                )
    return made


def _times(seconds: list[float | None]) -> tuple[str, str]:
    known = [s for s in seconds if s is not None]
    times = f"{statistics.median(known):.2f}/{max(known):.2f}" if known else "-"
    return f"{len(known)}/{len(seconds)}", times
