"""A real replay and a real learner, killed at random moments, fed with groups that nobody sampled.

    python -m tests.e2e.exactly_once --kills 20 --seed 7

says at the end whether the law holds: the weights are those of training the journal's committed batches in order, bit
for bit with one rank, and but for the order of sums with several (`--ranks 2`).
"""

import argparse
import asyncio
import multiprocessing
import random
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from actors.config.loading import RECIPE, dump, load
from actors.config.recipe import Recipe
from actors.deadline import until
from actors.errors import PeerTimeoutError, ProtocolError
from actors.models import prepare
from actors.replay.journal import Journal
from actors.replay.payload import Payload
from actors.roles.role import RoleContext, Storage, build
from actors.transport.client import Client
from actors.weights.receiver import StagedReceiver
from actors.weights.subscriber import Subscriber
from learner.extra import checkpoints, damage

QUICKSTART = Path(__file__).parents[2] / "recipes" / "quickstart.yaml"
SETTINGS = {
    "model": "{kind: tiny, hidden_size: 64, heads: 2, intermediate_size: 96}",
    "cold_start.examples": "64",
    "cold_start.stop_at_accuracy": "null",
    "cold_start.supervised.max_steps": "4",
    "cold_start.supervised.check_from": "0",
    "tasks.held_out": "4",
    "evaluation.samples": "1",
    "evaluation.every_steps": "7",
    "generators.groups_in_flight": "8",
    "replay.groups_per_batch": "3",
    "replay.group_size": "4",
    "replay.max_staleness": "2",
    "replay.journal.keep": "all",
    "learner.threads": "1",
    "learner.device": "cpu",
    "learner.objective.name": "grpo",
    "learner.checkpoint_keep_last": "100",
    "checkpoint_every_steps": "4",
    "membership.heartbeat_seconds": "0.5",
    "membership.timeout_seconds": "10",
}
#: Statistics that are no two times the same.
TIMED = frozenset({"seconds", "tokens_per_second", "teraflops", "mfu"})
#: What an event has of its way, not of what it tells.
STAMPS = frozenset({"seconds", "number", "origin"})
#: Longest wait for anything here (s).
PATIENCE = 120.0
MODULES = ["actors.roles.learner.learner", "actors.roles.replay", "transformers.models.llama.modeling_llama"]
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(MODULES)


def recipe_of(folder: Path, steps: int, ranks: int) -> Recipe:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = SETTINGS | {"steps": str(steps), "output": str(folder), "network.ports.replay": str(port)}
    settings["learner.ranks"] = str(ranks)
    return load(QUICKSTART, [f"{key}={value}" for key, value in settings.items()])


def serve(role: str, context: RoleContext) -> None:
    """One process of the run."""
    import torch

    torch.set_num_threads(1)
    build(role, context).run()


@dataclass
class Run:
    """One run, and what has been done to it."""

    folder: Path
    steps: int
    ranks: int = 1
    kills: Counter[str] = field(default_factory=Counter)
    at: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.recipe = recipe_of(self.folder.parent, self.steps, self.ranks)
        self.folder.mkdir()
        (self.folder / RECIPE).write_text(dump(self.recipe))
        self.model = prepare(self.recipe.model, self.folder.parent / "models", self.recipe.seed)
        self.address = f"tcp://127.0.0.1:{self.recipe.network.ports.replay}"
        self.processes: dict[str, Any] = {}
        self.watcher = Client(self.address, "controller", "controller", 3.0)

    def start(self, role: str) -> None:
        """Start a role, as the supervisor does: a learner from the newest whole checkpoint."""
        whole = [path for path in checkpoints(self.folder / "checkpoints").values() if damage(path) is None]
        storage = Storage(self.folder, self.model, whole[-1] if whole else None)
        replay = "" if role == "replay" else self.address
        for rank in range(self.ranks if role == "learner" else 1):
            name = f"{role}-rank-{rank}" if rank else role
            context = RoleContext(self.recipe, name, storage, replay, self.recipe.seed, rank)
            self.processes[name] = PROCESSES.Process(target=serve, args=(role, context))
            self.processes[name].start()

    def kill(self, role: str) -> None:
        """A learner's ranks together: without one of them the others wait, until they are replaced."""
        if self.processes[role].exitcode is None:
            for name, process in self.processes.items():
                if name.startswith(role):
                    process.kill()
                    process.join(PATIENCE)
            self.kills[role] += 1
            newest = max(checkpoints(self.folder / "checkpoints"), default=None)
            self.at.append(f"{role} at step {self.version()}, newest checkpoint {newest}")

    def version(self) -> int | None:
        status = self.ask("status")
        return None if status is None else int(status["version"])

    def ask(self, kind: str, body: Mapping[str, Any] | None = None) -> Mapping[str, Any] | None:
        try:
            return self.watcher.request(kind, body, deadline_seconds=1.0).body
        except PeerTimeoutError:
            return None

    def end(self) -> None:
        for process in self.processes.values():
            if process.exitcode is None:
                process.kill()
            process.join(PATIENCE)
        self.watcher.close()


class Engine(StagedReceiver):
    """Takes weights, and has no use for them."""

    def __init__(self) -> None:
        super().__init__()
        self.version: int | None = None
        self.versions: list[int] = []

    async def finish_update(self, version: int) -> float:
        self.take()
        self.version = version
        self.versions.append(version)
        return 0.0


class Pools:
    """A generator and a verifier without models: threads that end with `close`."""

    def __init__(self, run: Run) -> None:
        self._run, self._stopping = run, threading.Event()
        self.engine = Engine()
        self.submitted = 0
        works = (self._generate, self._verify, lambda: asyncio.run(self._follow()))
        self._threads = [threading.Thread(target=work, daemon=True) for work in works]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _repeat(self, name: str, role: str, work: Callable[[Client], None]) -> None:
        client = Client(self._run.address, name, role, 2.0)
        while not self._stopping.is_set():
            try:
                work(client)
            except (PeerTimeoutError, ProtocolError):
                self._stopping.wait(0.05)
        client.close()

    def _generate(self) -> None:
        def work(client: Client) -> None:
            if (version := self.engine.version) is None:
                self._stopping.wait(0.05)
                client.request("status")  # it is alive
                return
            leased = client.poll("lease", {"version": version, "capacity": 4}, wait_seconds=0.2)
            for task in leased.body["tasks"] if leased else ():
                self.submitted += 1
                payload = group_of(task["samples"], version, self.submitted)
                body = {"purpose": task["purpose"], "group_id": task["group_id"], "prompt": "p"}
                client.request("group_arrived", body | {"texts": ["t"] * task["samples"]}, payload.arrays())

        self._repeat("generator-1", "generator", work)

    def _verify(self) -> None:
        def work(client: Client) -> None:
            leased = client.poll("lease_verification", {"capacity": 4}, wait_seconds=0.2)
            for group in leased.body["groups"] if leased else ():
                body = {"purpose": group["purpose"], "group_id": group["group_id"]}
                scores = [{"status": "ok", "reward": float(i % 2)} for i in range(len(group["texts"]))]
                client.request("verdict", body | {"scores": scores})

        self._repeat("verifier-1", "verifier", work)

    async def _follow(self) -> None:
        """Take the weights of whichever learner there is."""
        client = Client(self._run.address, "generator-1", "generator", 2.0)
        address, subscription = "", None
        while not self._stopping.is_set():
            reply = await asyncio.to_thread(client.poll, "directory", None, 0.0)
            found = reply.body["services"].get("weights", address) if reply else address
            if found != address:
                if subscription is not None:
                    subscription.cancel()
                    await asyncio.gather(subscription, return_exceptions=True)
                address, subscription = (
                    found,
                    asyncio.create_task(Subscriber(found, "generator-1", self.engine, 10.0).run()),
                )
            await asyncio.sleep(0.1)
        if subscription is not None:
            subscription.cancel()
            await asyncio.gather(subscription, return_exceptions=True)
        client.close()


def group_of(samples: int, version: int, number: int) -> Payload:
    """A group that nobody sampled; no two are alike."""
    random_ = np.random.default_rng(number)
    lengths = random_.integers(2, 20, samples).astype(np.int32)
    count = int(lengths.sum())
    return Payload(
        prompt=random_.integers(1, 15, 5).astype(np.int32),
        tokens=random_.integers(1, 15, count).astype(np.int32),
        logprobs=-random_.gamma(4.0, 0.7, count).astype(np.float32),
        lengths=lengths,
        truncated=np.zeros(samples, np.uint8),
        spans=np.ones(samples, np.int32),
        span_versions=np.full(samples, version, np.int32),
        span_tokens=lengths,
    )


def torment(folder: Path, steps: int, kills: int, seed: int, ranks: int = 1, say: Callable[[str], None] = print) -> Run:
    """A run of which learner and replay are killed at random moments until it is done; its record is checked here.

    Args:
        folder: of the run; it is made.
        steps: of the run.
        kills: at most so many; the run may be done before.
        seed: of the moments.
        ranks: of the learner.
        say: is told what happens.
    """
    random_, run = random.Random(seed), Run(folder, steps, ranks)
    run.start("replay")
    run.start("learner")
    pools = Pools(run)
    began = time.monotonic()
    try:
        while run.processes["learner"].exitcode is None or run.processes["learner"].exitcode < 0:
            if random_.random() < 0.7:  # or else while they are still starting
                wait_for_news(run)
            moment = random_.uniform(0.0, 1.2)
            if run.kills.total() < kills and not until(lambda: ended(run), moment, interval=0.01):
                victim = random_.choice(("learner", "learner", "replay", "both"))
                for role in ("learner", "replay") if victim == "both" else (victim,):
                    run.kill(role)
                for role in ("replay", "learner"):
                    if run.processes[role].exitcode not in (None, 0):
                        run.start(role)
            elif run.kills.total() >= kills:
                assert until(lambda: ended(run), PATIENCE), f"seed {seed}: the run does not end"
        assert run.processes["learner"].exitcode == 0, f"seed {seed}: {log_of(run)}"
        for line in run.at:
            say(line)
        say(f"{dict(run.kills)} kills, {time.monotonic() - began:.0f} s, versions sent {pools.engine.versions}")
        check_record(run, seed)
    finally:
        pools.close()
        run.end()
    return run


def wait_for_news(run: Run) -> None:
    """Wait until the learner gets on, 20 s at most."""
    before = run.version()
    until(lambda: ended(run) or run.version() != before, 20.0, interval=0.05)


def ended(run: Run) -> bool:
    return run.processes["learner"].exitcode is not None


def log_of(run: Run) -> str:
    return (run.folder / "logs" / "learner.log").read_text()[-3000:]


def check_record(run: Run, seed: int) -> None:
    """Conservation, and every step once; one that was taken again came to the same."""
    found: list[Mapping[str, Any]] = []

    def answered() -> bool:  # a replay that was killed at the very end is still coming up
        if (status := run.ask("status")) is not None:
            found.append(status)
        return bool(found)

    assert until(answered, PATIENCE), f"seed {seed}: the replay does not answer"
    status = found[0]
    assert status["conserved"], f"seed {seed}: {status}"
    assert status["groups"]["committed"] == run.steps * run.recipe.replay.groups_per_batch, f"seed {seed}: {status}"
    told = run.watcher.request("events", {"after": 0}, deadline_seconds=PATIENCE).body["events"]
    steps: dict[int, Mapping[str, Any]] = {}
    for event in told:
        if event["kind"] == "step":
            values = {"staleness": event["staleness"], **event["statistics"]}
            found = {name: value for name, value in values.items() if name not in TIMED}
            assert steps.setdefault(event["step"], found) == found, f"seed {seed}: step {event['step']}"
    assert list(steps) == list(range(1, run.steps + 1)), f"seed {seed}: {list(steps)}"
    evaluations = {event["name"]: event for event in told if event["kind"] == "evaluation"}
    assert {"before", "after"} <= evaluations.keys(), f"seed {seed}: {list(evaluations)}"
    again = [e["name"] for e in told if e["kind"] == "evaluation" and not same(e, evaluations[e["name"]])]
    assert not again, f"seed {seed}: evaluations {again} were made twice, with another outcome"


def same(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether two events tell the same, perhaps at other times."""
    told = ({name: value for name, value in event.items() if name not in STAMPS} for event in (first, second))
    return next(told) == next(told)


def check_law(run: Run, seed: int) -> int:
    """Train the committed batches in order, in this process; returns how many checkpoints were compared."""
    import torch

    from actors.roles.learner.retraining import Era, Plan, retrain

    torch.set_num_threads(1)
    plan = Plan(run.folder, run.model, 1, run.steps, [Era(0, run.recipe)], compared=True)
    for path in list(plan.recorded.values()):  # from the very beginning, cold start included
        if path.name == "step-000000":
            path.rename(path.with_name("start"))
    found = list(retrain(plan, Journal.read(run.folder), lambda _: None))
    # One process sums in another order than several ranks have.
    allowed = 0.0 if run.ranks == 1 else 1e-4
    different = [(s.step, s.difference) for s in found if s.difference and s.difference.largest > allowed]
    assert not different, f"seed {seed}: the law is broken at {different}"
    compared = [step.step for step in found if step.compared]
    assert compared[-1] == run.steps == found[-1].step, f"seed {seed}: {compared}"
    return len(compared)


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, default in (("kills", 20), ("seed", 0), ("steps", 40), ("ranks", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = torment(Path(folder, "run"), asked.steps, asked.kills, asked.seed, asked.ranks)
        compared = check_law(run, asked.seed)
    print(f"seed {asked.seed}: {run.kills.total()} kills, {compared} checkpoints as the law has them")


if __name__ == "__main__":
    main()
