"""The learner: trains on batches as they come and publishes every new version."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

from actors import process
from actors.config.recipe import Recipe
from actors.deadline import until
from actors.errors import GaveUpError, RecipeError, RunError
from actors.events import EvaluationMissing, WriteFailed
from actors.membership import Report
from actors.observability import metrics
from actors.observability.reporting import report
from actors.observability.waits import waiting
from actors.replay.clients import connect
from actors.roles.learner.batches import Batches, staleness_of
from actors.roles.learner.checkpoints import Checkpoints
from actors.roles.learner.held_out import EvaluationMissingError
from actors.roles.learner.publishing import Publishing
from actors.roles.learner.rendezvous import join, leave, wait_on_all_ranks
from actors.roles.learner.resuming import resume
from actors.roles.learner.reward_model import train_reward_model
from actors.roles.learner.sampling import provenance, sample
from actors.roles.learner.settings import learner_config
from actors.roles.learner.sft import ColdStartStoppedError, cold_start
from actors.roles.learner.telling import Telling
from actors.roles.role import Description, RoleContext, enter
from actors.roles.scorer.files import model_folder
from actors.tasks.stream import TaskStream
from actors.transport.client import POLL_SECONDS, Heartbeat
from actors.transport.lifeline import REPLY_SECONDS
from actors.weights.background import in_background
from learner import CheckpointError, Group, Trainer
from learner.distributed import ranks
from learner.extra import CHECKPOINTS, checkpoint_name, update_extra
from learner.model.base_weights import BaseWeights
from learner.model.merging import Merging

log = logging.getLogger(__name__)

#: Whether the accuracy before training is known, in a checkpoint: a run may be interrupted while it is measured.
EVALUATED = "evaluated"
#: The evaluation that ends a run.
AFTER = "after"


class Learner:
    """A role: trains from the run's checkpoint, or from the model, until the recipe's last step or `stop`.

    Every rank runs the same code on the same batches, so that all of them meet in the same collectives; only rank 0
    speaks for the learner: it sends weights, asks for evaluations, reports and commits.
    """

    def __init__(self, context: RoleContext) -> None:
        self._recipe, self._replay, self._storage = context.recipe, context.lifeline, context.storage
        self._folder, self._resume = context.storage.folder, context.storage.checkpoint
        self._rank, self._name = context.rank, context.name
        self._stopping = self._loaded = self._evaluated = False
        self._published: int | None = None
        self._checkpoints = Checkpoints(self._save, self._committed, self._checkpoint_failed)
        shown = "learner" if context.rank == 0 else None  # the metrics of a learner are those of its first rank
        self._presence = enter(context.recipe, self._folder, context.name, shown, context.replay)

    @property
    def _model(self) -> Path:
        return self._storage.model_folder

    def describe(self) -> Description:
        return Description(self._presence.metrics)

    def stop(self) -> None:
        self._stopping = True

    @process.logged
    def run(self) -> None:
        recipe = self._recipe
        with ExitStack() as open_:
            # What the publisher's thread tells must not hold up the weights where the replay is away.
            self._client, self._batches, notices = (
                open_.enter_context(closing(connect(self._replay, self._name, "learner", seconds)))
                for seconds in (None, None, REPLY_SECONDS)
            )
            self._telling = Telling(self._client, notices, recipe.evaluation.stall_seconds, lambda: self._stopping)
            interval = recipe.membership.heartbeat_seconds
            self._heartbeat = Heartbeat(self._replay, self._name, "learner", interval, self._report_self)
            open_.enter_context(closing(self._heartbeat))
            self._fetcher = ThreadPoolExecutor(1, thread_name_prefix="batch-fetcher")
            open_.callback(self._fetcher.shutdown, wait=False, cancel_futures=True)
            open_.callback(self.stop)  # also where the run broke: the fetcher would ask on
            if recipe.learner.ranks > 1:
                startup_seconds = recipe.controller.startup_seconds
                join(self._client, self._rank, recipe.learner, self._presence.node, startup_seconds)
            self._weights = open_.enter_context(closing(self._begin_publishing()))
            self._train_reward_model()
            self._trainer = Trainer(learner_config(recipe, self._folder), self._model, recipe.seed)
            require_length(recipe, self._trainer.policy.longest)
            self._loaded = True
            try:
                self._start()
            except ColdStartStoppedError as error:
                log.info("%s", error)
                return
            self._train()
            leave()

    def _report_self(self) -> Report:
        return report("learner", self._presence.metrics, self._published, ready=self._loaded)

    def _begin_publishing(self) -> Publishing:
        recipe = self._recipe
        publishing = Publishing(
            recipe,
            self._name,
            self._presence.node,
            self._heartbeat,
            merging_of(recipe, self._model) if recipe.learner.sends_adapters and self._rank == 0 else None,
            self._telling.synced,
        )
        if (address := publishing.endpoint) is not None:
            self._client.request("announce", {"service": "weights", "address": address})
            self._heartbeat.announce("weights", address)
        return publishing

    # ---------------------------------------------------------------- before the first step

    def _train_reward_model(self) -> None:
        """On the first rank, unless it is there already: before the policy is in memory, and before any weights are
        published, so that no group can be generated that its verifier could not score.
        """
        recipe = self._recipe
        if self._rank != 0 or recipe.preferences is None or recipe.preferences.pairs is None:
            return
        place = model_folder(recipe.preferences, self._folder)
        if place.is_dir():
            return
        self._phase("reward model", "it learns from preferences")
        stream = TaskStream(recipe.tasks, recipe.seed)
        with metrics.busy("learner"):
            event = train_reward_model(
                recipe,
                self._model,
                stream,
                place,
                lambda text: self._phase("reward model", text),
                lambda: self._stopping,
            )
        if event is not None:
            self._telling.notify(event)

    def _start(self) -> None:
        trainer, recipe = self._trainer, self._recipe
        if resumed := resume(trainer, self._folder, self._resume, self._committed):
            extra, set_aside = resumed
            self._evaluated = extra.get(EVALUATED, True)
            self._checkpoints.durable = trainer.version
            metrics.CHECKPOINT_VERSION.set(trainer.version)
            for line in set_aside:
                self._phase("resuming", line)
        elif recipe.cold_start:
            self._phase("cold start", f"{type(trainer.model).__name__} learns from traces")
            stream = TaskStream(recipe.tasks, recipe.seed)
            with metrics.busy("learner"):
                say, stopped = (lambda text: self._phase("cold start", text)), (lambda: self._stopping)
                cold_start(recipe, trainer, self._model, stream, say, stopped)
            self._checkpoints.begin(trainer.version)
        metrics.LEARNER_VERSION.set(trainer.version)
        self._phase("starting", "the generators are coming up")
        self._publish()
        self._until_published(
            recipe.generators.startup_seconds, "a generator that takes the first weights; see logs/generator-*.log"
        )
        known = self._evaluated or not recipe.steps  # without a step there is no before and after
        if not known:
            evaluated = self._fetcher.submit(self._evaluate, "before", recipe.evaluation.samples, wait=True)
            wait_on_all_ranks(evaluated, trainer.device)
            self._evaluated = not self._stopping
        if not self._save_what_is_not_durable() and self._evaluated and not known:
            self._note_evaluated()

    def _publish(self) -> None:
        """Offer the current weights to the generators; every rank takes part in gathering them."""
        tensors = self._trainer.snapshot(self._weights.senders)
        self._published = self._trainer.version
        self._weights.publish(self._trainer.version, tensors)

    def _until_published(self, seconds: float, what: str) -> None:
        if self._rank == 0:
            self._until(lambda: self._weights.wait(self._trainer.version, POLL_SECONDS), seconds, what)

    def _until(self, condition: Callable[[], Any], seconds: float, what: str) -> None:
        """Raises GaveUpError where the condition, which itself waits a little, does not come true in time."""
        with waiting(what.partition(";")[0], "to get on"):
            if not until(lambda: self._stopping or bool(condition()), seconds, interval=0.0):
                raise GaveUpError(f"waited {seconds:g} s for {what}")

    # ---------------------------------------------------------------- the loop

    def _train(self) -> None:
        """Each step trains on the batch of its version; a thread waits for it, so that commits and stopping go on."""
        recipe, trainer = self._recipe, self._trainer
        self._phase("training", f"{recipe.steps} steps")
        batches = Batches(recipe, self._batches, self._fetcher, trainer.share, lambda: self._stopping)
        coming = batches.fetch(trainer.version)
        while trainer.version < recipe.steps:  # a stop ends it below, where all ranks hear of it
            groups = batches.wait(coming, self._checkpoints.settle)
            if not self._all_ranks_have(groups):
                break
            assert groups is not None
            version = trainer.version
            coming = batches.fetch(version + 1)
            with metrics.busy("learner"), metrics.STEP.time():
                start = time.monotonic()
                statistics = trainer.train_step(
                    groups,
                    recipe.generators.sampling.temperature,
                    recipe.replay.oldest_trained(version),
                    partial(batches.whole, version),
                )
                seconds = time.monotonic() - start
                self._publish()
            self._report(version, groups, statistics, seconds)
            self._after_step(trainer.version)
        self._phase("saving", "the checkpoint")
        self._save_what_is_not_durable()
        if not self._stopping:
            self._finish()
        if self._checkpoints.failure is not None:
            raise self._checkpoints.failure

    def _after_step(self, step: int) -> None:
        recipe = self._recipe
        self._checkpoints.settle()
        if recipe.checkpoint_every_steps and step % recipe.checkpoint_every_steps == 0:
            with metrics.busy("learner"):
                self._checkpoints.settle(wait=True)  # each is a copy in memory until it is written
                self._checkpoints.begin(step)
        if recipe.evaluation.every_steps and step % recipe.evaluation.every_steps == 0 and step < recipe.steps:
            self._evaluate(f"step {step}", recipe.evaluation.samples_between, wait=False)

    def _finish(self) -> None:
        """The model comes first: an evaluation that has no result costs no more than itself."""
        self._phase("saving", "the model")
        self._trainer.export(self._folder / "model")
        if len(self._weights.senders) == 1:
            self._end_with_last_weights()
        else:  # whoever sends has to be there as long as somebody may need the weights
            wait_on_all_ranks(in_background(self._end_with_last_weights, "last-weights"), self._trainer.device)

    def _end_with_last_weights(self) -> None:
        """Sample or evaluate with them; the first rank does."""
        # A generator that hangs is evicted after one deadline; the others take the weights in another epoch.
        seconds = 2 * self._recipe.weights.deadline_seconds
        if self._recipe.sample is not None:
            self._until_published(seconds, "the generators to take the weights")
            if self._rank == 0:
                sample(self._recipe, self._folder, self._telling, self._trainer.version, lambda: self._stopping)
            return
        try:
            self._until_published(seconds, "the generators to take the last weights")
            self._evaluate(AFTER, self._recipe.evaluation.samples, wait=True)
        except EvaluationMissingError as error:
            log.warning("%s", error)
        except RunError as error:
            log.warning("the run ends without its last evaluation: %s", error)
            event = EvaluationMissing(version=self._trainer.version, name=AFTER, reason=str(error))
            self._telling.notify(event)

    # ---------------------------------------------------------------- batches

    def _all_ranks_have(self, groups: list[Group] | None) -> bool:
        """Whether no rank was told to stop: a rank that went on alone would wait for the others for ever."""
        with waiting("the other ranks", "their shares of the batch", counted_as="ranks"):
            have = ranks.all_reduce_sum(float(groups is not None), self._trainer.device)
        return have == self._recipe.learner.ranks

    def _report(self, version: int, groups: list[Group], statistics: dict[str, float], seconds: float) -> None:
        if self._rank != 0:
            return
        staleness = staleness_of(groups, version, self._recipe.replay.oldest_trained(version))
        body = {"version": version, "statistics": statistics, "staleness": staleness, "step_seconds": seconds}
        self._client.request("trained", body)
        metrics.LEARNER_VERSION.set(version + 1)
        metrics.TRAINED_TOKENS.inc(statistics["tokens"])
        for name, value in statistics.items():
            metrics.STATISTIC.labels(name).set(value)

    # ---------------------------------------------------------------- checkpoints, evaluation, notices

    def _save(self, version: int) -> Future[None]:
        """Begin to save, with the replay's position."""
        snapshot = self._client.request("snapshot", {"version": version}).body["snapshot"]
        folder = self._folder / CHECKPOINTS / checkpoint_name(version)
        return self._trainer.save_async(folder, {"replay": snapshot, EVALUATED: self._evaluated})

    def _save_what_is_not_durable(self) -> bool:
        """Save what no checkpoint holds yet, also where that of this very step could not be written the first time;
        whether there was anything."""
        version = self._trainer.version
        self._checkpoints.settle(wait=True)
        if missing := bool(ranks.all_reduce_sum(float(self._checkpoints.durable != version), self._trainer.device)):
            self._checkpoints.begin(version)
            self._checkpoints.settle(wait=True)
        return missing

    def _note_evaluated(self) -> None:
        """Write into the checkpoint, whose weights stay what they are, that the accuracy before training is known."""
        if self._rank != 0:
            return
        folder = self._folder / CHECKPOINTS / checkpoint_name(self._trainer.version)
        try:
            update_extra(folder, {EVALUATED: True})
        except CheckpointError as error:
            log.warning("%s; a run that resumes from it will measure once more", error)

    def _committed(self, version: int) -> None:
        if self._rank == 0:
            self._client.request("committed", {"version": version})

    def _checkpoint_failed(self, reason: str) -> None:
        if self._rank == 0:
            self._telling.notify(WriteFailed(what="checkpoints", reason=reason))

    def _evaluate(self, name: str, samples: int, wait: bool) -> None:
        if self._rank == 0:
            if wait:
                log.info("evaluation: %s", name)
            keep = self._recipe.evaluation.keep_completions and name == AFTER
            told = provenance(self._recipe, self._folder) if keep else None
            self._telling.evaluate(name, self._trainer.version, samples, wait, keep=keep, provenance=told)

    def _phase(self, name: str, detail: str) -> None:
        log.info("%s: %s", name, detail)
        if self._rank == 0:
            self._telling.phase(name, detail)


def require_length(recipe: Recipe, longest: int | None) -> None:
    """Refuse answers whose length would change what the model says of others (`learner.model.loading`)."""
    tokens = recipe.tasks.max_prompt_tokens + recipe.generators.sampling.max_tokens
    if longest is not None and tokens > longest:
        raise RecipeError(
            f"tasks.max_prompt_tokens and generators.sampling.max_tokens are {tokens} together, and beyond {longest} "
            "the positions of this model depend on its longest sequence (dynamic or longrope); lower one of the two"
        )


def merging_of(recipe: Recipe, model: Path) -> Merging:
    """How generators merge the adapters into weights. They are rounded as they would have been on their way: to the
    learner's dtype, then to the generators', of which the narrower one decides."""
    lora = recipe.learner.lora
    assert lora is not None
    dtypes = (recipe.learner.dtype, recipe.generators.dtype)
    dtype = "bfloat16" if "bfloat16" in dtypes else "float32"
    return Merging(scale=lora.scale, dtype=dtype, base=BaseWeights(model).fingerprint)
