"""The learner: one actor that trains on batches as they come and publishes every new version."""

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from actors import metrics, process
from actors.cold_start import cold_start
from actors.config.recipe import Recipe
from actors.deadline import until
from actors.errors import PeerTimeoutError, RunError
from actors.replay.client import POLL_SECONDS, Client, Heartbeat
from actors.replay.payload import Payload
from actors.tasks.stream import TaskStream
from actors.weights.publisher import Publisher
from actors.wire import Array
from learner import Completion, Group, Trainer

log = logging.getLogger(__name__)


class Learner:
    """`run` trains from the checkpoint at `resume`, or from the model, until the recipe's last step or `stop`."""

    def __init__(self, recipe: Recipe, replay: str, model: Path, folder: Path, resume: Path | None) -> None:
        self._recipe, self._replay, self._model, self._folder, self._resume = recipe, replay, model, folder, resume
        self._stopping = False
        self._metrics_port, self._metrics_server = process.begin("learner", folder, recipe.controller.host)

    def describe(self) -> dict[str, Any]:
        """Where this process is to be found."""
        return {"metrics_port": self._metrics_port}

    def stop(self) -> None:
        self._stopping = True

    @process.logged
    def run(self) -> None:
        recipe = self._recipe
        self._client = Client(self._replay, "learner", "learner")
        self._batches = Client(self._replay, "learner", "learner")
        self._notices = Client(self._replay, "learner", "learner")
        beat = Heartbeat(self._replay, "learner", "learner", recipe.replay.worker_silence_seconds / 4)
        dtype = getattr(torch, recipe.generators.dtype)
        self._publisher = Publisher(recipe.weights, dtype, self._synced)
        self._client.request("announce", {"service": "weights", "address": self._publisher.address})
        self._fetcher = ThreadPoolExecutor(1, thread_name_prefix="batch-fetcher")
        try:
            self._trainer = Trainer(recipe.learner, self._model, recipe.seed)
            self._start()
            self._train()
        finally:
            self._fetcher.shutdown(wait=False, cancel_futures=True)
            self._publisher.close()
            beat.close()

    # ---------------------------------------------------------------- before the first step

    def _start(self) -> None:
        trainer, recipe = self._trainer, self._recipe
        if self._resume:
            trainer.load(self._resume)
        elif recipe.cold_start:
            self._phase("cold start", f"{type(trainer.model).__name__} learns from traces")
            stream = TaskStream(recipe.tasks, recipe.seed)
            with metrics.busy("learner"):
                cold_start(recipe, trainer, self._model, stream, lambda text: self._phase("cold start", text))
        metrics.LEARNER_VERSION.set(trainer.version)
        self._phase("starting", "the generators are coming up")
        self._publisher.publish(trainer.version, trainer.snapshot())
        self._until(
            lambda: self._publisher.wait(trainer.version, POLL_SECONDS),
            recipe.generators.startup_seconds,
            "a generator that takes the first weights; see logs/generator-*.log",
        )
        if not self._resume:
            self._evaluate("before", recipe.evaluation.samples, wait=True)
            self._checkpoint()

    def _until(self, condition: Callable[[], Any], seconds: float, what: str) -> None:
        """Raises RunError where the condition, which itself waits a little, does not come true in time."""
        if not until(lambda: self._stopping or bool(condition()), seconds, interval=0.0):
            raise RunError(f"waited {seconds:g} s for {what}")

    # ---------------------------------------------------------------- the loop

    def _train(self) -> None:
        """Each step trains on the batch of the current version, while the next batch is fetched."""
        recipe, trainer = self._recipe, self._trainer
        self._phase("training", f"{recipe.steps} steps")
        coming = self._fetch(trainer.version)
        while trainer.version < recipe.steps and not self._stopping:
            groups = self._await_batch(coming)
            if groups is None:
                break
            version = trainer.version
            with metrics.busy("learner"), metrics.STEP.time():
                start = time.monotonic()
                statistics = trainer.train_step(groups, recipe.generators.sampling.temperature)
                seconds = time.monotonic() - start
                self._publisher.publish(trainer.version, trainer.snapshot())
            self._report(version, groups, statistics, seconds)
            coming = self._fetch(trainer.version)
            self._after_step(trainer.version)
        if trainer.version % max(1, recipe.checkpoint_every_steps) or not recipe.checkpoint_every_steps:
            self._checkpoint()
        if not self._stopping:
            self._finish()

    def _after_step(self, step: int) -> None:
        recipe = self._recipe
        if recipe.checkpoint_every_steps and step % recipe.checkpoint_every_steps == 0:
            self._checkpoint()
        if recipe.evaluation.every_steps and step % recipe.evaluation.every_steps == 0 and step < recipe.steps:
            self._evaluate(f"step {step}", recipe.evaluation.samples_between, wait=False)

    def _finish(self) -> None:
        version = self._trainer.version
        self._until(lambda: self._publisher.wait(version, POLL_SECONDS), self._recipe.weights.deadline_seconds,
                    "the generators to take the last weights")  # fmt: skip
        self._evaluate("after", self._recipe.evaluation.samples, wait=True)
        self._trainer.export(self._folder / "model")

    # ---------------------------------------------------------------- batches

    def _fetch(self, version: int) -> "Future[list[Group] | None]":
        return self._fetcher.submit(self._take, version)

    def _take(self, version: int) -> list[Group] | None:
        """The batch of `version`, however long it takes; None once the run is being stopped."""
        while not self._stopping and version < self._recipe.steps:
            batch = self._batches.poll("take_batch", {"version": version})
            if batch:
                return groups_of(batch.body["groups"], batch.arrays, self._recipe.replay.group_size)
        return None

    def _await_batch(self, coming: "Future[list[Group] | None]") -> list[Group] | None:
        start = time.monotonic()
        while not coming.done() and not self._stopping:
            try:
                coming.result(POLL_SECONDS)
            except TimeoutError:
                continue
        metrics.BATCH_WAIT.inc(time.monotonic() - start)
        return coming.result(POLL_SECONDS) if not self._stopping else None

    def _report(self, version: int, groups: list[Group], statistics: dict[str, float], seconds: float) -> None:
        staleness = Counter(
            int(version - v) for group in groups for c in group.completions for v in c.versions.tolist()
        )
        body = {"version": version, "statistics": statistics, "staleness": dict(staleness), "step_seconds": seconds}
        self._client.request("trained", body)
        metrics.LEARNER_VERSION.set(version + 1)
        metrics.TRAINED_TOKENS.inc(statistics["tokens"])
        for name, value in statistics.items():
            metrics.STATISTIC.labels(name).set(value)

    # ---------------------------------------------------------------- checkpoints, evaluation, notices

    def _checkpoint(self) -> None:
        """Save with the replay's position, then tell the replay that everything before is durable."""
        version = self._trainer.version
        snapshot = self._client.request("snapshot", {"version": version}).body["snapshot"]
        self._trainer.save(self._folder / "checkpoints" / f"step-{version:06d}", {"replay": snapshot})
        self._client.request("committed", {"version": version})

    def _evaluate(self, name: str, samples: int, wait: bool) -> None:
        body = {"name": name, "version": self._trainer.version, "samples": samples}
        number = self._client.request("evaluate", body).body["evaluation"]
        if wait:
            self._phase("evaluation", name)
            self._until(
                lambda: self._client.request(
                    "evaluation_result", {"evaluation": number}, wait_seconds=POLL_SECONDS
                ).body.get("result"),
                self._recipe.generators.startup_seconds,
                f"the evaluation {name!r}",
            )

    def _phase(self, name: str, detail: str) -> None:
        log.info("%s: %s", name, detail)
        self._client.request("notice", {"event": {"kind": "phase", "name": name, "detail": detail}})

    def _synced(self, event: Mapping[str, Any]) -> None:
        """Called by the publisher's thread, which must outlive a replay that is away for a moment."""
        try:
            self._notices.request("notice", {"event": dict(event)})
        except PeerTimeoutError as error:
            log.warning("%s; one weight update is missing in the record", error)


def groups_of(heads: list[dict[str, Any]], arrays: Mapping[str, Array], group_size: int) -> list[Group]:
    """The groups of a delivered batch, in order. Raises ProtocolError where one is out of form."""
    own: defaultdict[str, dict[str, Array]] = defaultdict(dict)
    for key, array in arrays.items():
        position, _, name = key.partition(".")
        own[position][name] = array
    return [_group(head, Payload.of(own[str(position)], group_size)) for position, head in enumerate(heads)]


def _group(head: Mapping[str, Any], payload: Payload) -> Group:
    ends = payload.lengths.cumsum()
    versions = payload.token_versions()
    completions = []
    for i, (end, length) in enumerate(zip(ends, payload.lengths, strict=True)):
        part = slice(end - length, end)
        completions.append(
            Completion(
                tokens=payload.tokens[part],
                logprobs=payload.logprobs[part],
                versions=versions[part],
                reward=float(head["rewards"][i]),
                truncated=bool(payload.truncated[i]),
                parts=head["parts"][i],
            )
        )
    return Group(prompt=payload.prompt, completions=tuple(completions), id=int(head["ticket"]))
