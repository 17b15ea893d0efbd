"""A synthetic learner: what the real one asks of the replay, in the same order, around a step that only takes time.

Its weights are a hash of all batches that went into them, so that two histories of training can be told apart. It notes
every step and every commit in `learner.jsonl` of the run folder, for `fleet.laws`.
"""

import hashlib
import json
import os
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from actors import process
from actors.deadline import until
from actors.errors import GaveUpError
from actors.membership import Report
from actors.observability import metrics
from actors.observability.reporting import report
from actors.replay.batch import decode_batch
from actors.replay.clients import connect
from actors.roles.learner.batches import staleness_of
from actors.roles.learner.telling import Telling
from actors.roles.role import Description, RoleContext, enter
from actors.transport.client import POLL_SECONDS, Heartbeat
from actors.transport.codec import Message
from actors.transport.lifeline import REPLY_SECONDS
from actors.weights.group import GroupInfo
from actors.weights.publisher import Publisher
from actors.weights.session import SyncClient, Tensors
from learner import Group
from learner.extra import CHECKPOINTS, META, checkpoint_name, read_extra

#: The file in the run folder in which it notes what it has done.
NOTES = "learner.jsonl"
#: The hash of weights that were trained on nothing.
UNTRAINED = "0" * 64


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a step takes: `step_seconds`, and `token_seconds` for each token of its batch (s)."""

    step_seconds: float = 0.2
    token_seconds: float = 0.0


class EmptyTransport:
    """Carries updates without bytes: the transaction alone, between publisher and subscribers as they are."""

    def __init__(self, client: SyncClient, world_size: int, **options: Any) -> None:
        self._client = client
        told = {name: options[name] for name in ("backend", "bucket_bytes", "deadline_seconds")}
        info = GroupInfo(master_address="::1", master_port=1, rank_offset=1, world_size=world_size, **told)
        client.init_weight_transfer_engine(asdict(info))

    def send(self, tensors: Tensors) -> int:  # noqa: ARG002 - there are none
        self._client.start_weight_update()
        self._client.update_weights({"names": [], "dtype_names": [], "shapes": [], "delta": False})
        self._client.finish_weight_update()
        return 0

    def close(self) -> None:
        """Nothing is open."""


class SyntheticLearner:
    """A role, see `actors.roles.role`. It knows one rank."""

    def __init__(self, context: RoleContext, pace: Pace) -> None:
        self._recipe, self._replay, self._name = context.recipe, context.lifeline, context.name
        self._folder, self._resume, self._pace = context.storage.folder, context.storage.checkpoint, pace
        self._stopping = self._loaded = False
        self._version, self._weights, self._durable = 0, UNTRAINED, -1
        self._published: int | None = None
        self._presence = enter(context.recipe, self._folder, context.name, "learner", context.replay)

    def describe(self) -> Description:
        return Description(self._presence.metrics)

    def stop(self) -> None:
        self._stopping = True

    @process.logged
    def run(self) -> None:
        recipe = self._recipe
        with ExitStack() as open_:
            self._client, self._batches, notices = (
                open_.enter_context(closing(connect(self._replay, self._name, "learner", seconds)))
                for seconds in (None, None, REPLY_SECONDS)
            )
            self._fetcher = ThreadPoolExecutor(1, thread_name_prefix="batch-fetcher")
            open_.callback(self._fetcher.shutdown, wait=False, cancel_futures=True)
            open_.callback(self.stop)  # also where the run broke: the fetcher would ask on
            self._telling = Telling(self._client, notices, recipe.evaluation.stall_seconds, lambda: self._stopping)
            interval = recipe.membership.heartbeat_seconds
            self._heartbeat = Heartbeat(self._replay, self._name, "learner", interval, self._report_self)
            open_.enter_context(closing(self._heartbeat))
            self._publisher = Publisher(
                recipe.weights,
                self._presence.node,
                torch.float32,
                alive=lambda: self._heartbeat.alive("generator"),
                timeout_seconds=recipe.membership.timeout_seconds,
                on_sync=self._telling.synced,
                transport=EmptyTransport,
            )
            open_.enter_context(closing(self._publisher))
            self._client.request("announce", {"service": "weights", "address": self._publisher.endpoint})
            self._heartbeat.announce("weights", self._publisher.endpoint)
            self._begin()
            self._train()

    def _report_self(self) -> Report:
        return report("learner", self._presence.metrics, self._published, ready=self._loaded)

    # ---------------------------------------------------------------- the life of a learner

    def _begin(self) -> None:
        if self._resume is not None:
            extra = read_extra(self._resume)
            self._version = self._durable = extra["version"]
            self._weights = extra["weights"]
        self._loaded = True
        self._telling.phase("starting", "the generators are coming up")
        self._publish()
        seconds = self._recipe.generators.startup_seconds

        def published() -> bool:
            return self._stopping or self._publisher.wait(self._version, POLL_SECONDS)

        if not until(published, seconds, interval=0.0):
            raise GaveUpError(f"waited {seconds:g} s for a generator that takes the first weights")
        if self._resume is None:
            self._telling.evaluate("before", self._version, self._recipe.evaluation.samples, wait=True)
            self._save()

    def _train(self) -> None:
        recipe = self._recipe
        self._telling.phase("training", f"{recipe.steps} steps")
        coming = self._fetcher.submit(self._take, self._version)
        while not self._stopping and self._version < recipe.steps:
            if (batch := self._wait(coming)) is None:
                break
            coming = self._fetcher.submit(self._take, self._version + 1)
            with metrics.busy("learner"), metrics.STEP.time():
                start = time.monotonic()
                groups = decode_batch(batch.body, batch.arrays, recipe.replay.group_size)
                tokens = sum(len(c.tokens) for group in groups for c in group.completions)
                time.sleep(self._pace.step_seconds + tokens * self._pace.token_seconds)
                digest = digest_of(batch)
                self._weights = trained_on(self._weights, digest)
                self._version += 1
                self._publish()
                seconds = time.monotonic() - start
            self._report(self._version - 1, groups, digest, seconds)
            self._after_step(self._version)
        self._save()
        if not self._stopping:
            self._telling.evaluate("after", self._version, recipe.evaluation.samples, wait=True)

    def _take(self, version: int) -> Message | None:
        """A batch, in the thread that fetches; None once the learner is to stop, or where it is the end."""
        while not self._stopping and version < self._recipe.steps:
            if batch := self._batches.poll("take_batch", {"version": version}):
                return batch
        return None

    def _wait(self, coming: "Future[Message | None]") -> Message | None:
        """The batch that was begun to be fetched, however long it takes; None once the learner is to stop."""
        start = time.monotonic()
        while not self._stopping:
            with suppress(TimeoutError):
                batch = coming.result(POLL_SECONDS)
                metrics.BATCH_WAIT.inc(time.monotonic() - start)
                return batch
        return None

    def _publish(self) -> None:
        self._published = self._version
        self._publisher.publish(self._version, [])

    def _report(self, version: int, groups: list[Group], digest: str, seconds: float) -> None:
        staleness = staleness_of(groups, version, None)
        self._note(
            trained=version,
            digest=digest,
            weights=self._weights,
            groups=[group.id for group in groups],
            lengths=[len(c.tokens) for group in groups for c in group.completions],
            oldest=max(staleness),
        )
        tokens = sum(staleness.values())
        body = {"version": version, "statistics": {"tokens": tokens}, "staleness": staleness, "step_seconds": seconds}
        self._client.request("trained", body)
        metrics.LEARNER_VERSION.set(version + 1)
        metrics.TRAINED_TOKENS.inc(tokens)

    def _after_step(self, step: int) -> None:
        recipe = self._recipe
        if recipe.checkpoint_every_steps and step % recipe.checkpoint_every_steps == 0:
            self._save()
        if recipe.evaluation.every_steps and step % recipe.evaluation.every_steps == 0 and step < recipe.steps:
            self._telling.evaluate(f"step {step}", self._version, recipe.evaluation.samples_between, wait=False)

    def _save(self) -> None:
        """Write a checkpoint and commit it, unless the newest one holds this version."""
        if self._durable == self._version:
            return
        start = time.monotonic()
        snapshot = self._client.request("snapshot", {"version": self._version}).body["snapshot"]
        folder = self._folder / CHECKPOINTS / checkpoint_name(self._version)
        write_checkpoint(folder, {"replay": snapshot, "version": self._version, "weights": self._weights})
        self._durable = self._version
        metrics.CHECKPOINTS.inc()
        metrics.CHECKPOINT.observe(time.monotonic() - start)
        metrics.CHECKPOINT_VERSION.set(self._version)
        self._client.request("committed", {"version": self._version})
        self._note(committed=self._version, weights=self._weights)

    # ---------------------------------------------------------------- what it says

    def _note(self, **fields: Any) -> None:
        with (self._folder / NOTES).open("a") as file:
            file.write(json.dumps({**fields, "process": os.getpid(), "seconds": time.time()}) + "\n")


def digest_of(batch: Message) -> str:
    """Of everything that a delivered batch holds, in its order."""
    found = hashlib.sha256(json.dumps(batch.body, sort_keys=True).encode())
    for name in sorted(batch.arrays):
        found.update(name.encode())
        found.update(batch.arrays[name].tobytes())
    return found.hexdigest()


def trained_on(weights: str, digest: str) -> str:
    """The weights after one more batch."""
    return hashlib.sha256((weights + digest).encode()).hexdigest()


def write_checkpoint(folder: Path, extra: Mapping[str, Any]) -> None:
    """A checkpoint without tensors; a folder of that name is always whole."""
    unfinished = folder.with_name(f".{folder.name}-{os.getpid()}")
    unfinished.mkdir(parents=True, exist_ok=True)
    (unfinished / META).write_text(json.dumps({"extra": dict(extra)}))
    if not folder.exists():
        unfinished.rename(folder)
