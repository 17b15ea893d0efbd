"""The replay as a role: the service, and the tasks behind its numbers."""

import json
import logging
import math
import shutil
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from actors import process
from actors.config.recipe import Recipe
from actors.errors import JournalError, JournalHeldError, RunError
from actors.models.tokenizer import vocabulary_of
from actors.observability import metrics
from actors.replay.board import Board, first_event
from actors.replay.buffer import Buffer
from actors.replay.journal import Identity, Journal, place_of
from actors.replay.kept import KeptFiles
from actors.replay.limits import ReplayLimits
from actors.replay.service import ReplayService
from actors.replay.shards import snapshots_of
from actors.roles.role import Description, RoleContext, enter
from actors.tasks import Task, TaskStream
from learner.extra import CHECKPOINTS, newest_whole, read_extra

log = logging.getLogger(__name__)

#: How often `run` looks whether it is to stop (s).
WATCH_SECONDS = 0.2


class StreamTasks:
    """The task stream as the replay needs it."""

    def __init__(self, stream: TaskStream) -> None:
        self._stream = stream
        self.held_out = len(stream.held_out)

    def train(self, index: int) -> Mapping[str, Any]:
        return _plain(self._stream.train(index))

    def evaluate(self, index: int) -> Mapping[str, Any]:
        return _plain(self._stream.held_out[index])


def _plain(task: Task) -> dict[str, Any]:
    return {
        "key": task.key,
        "messages": [list(message) for message in task.messages],
        "verifier": task.verifier,
        "reference": json.dumps(task.reference),
        "source": task.source,
    }


class ReplayRole:
    """A shard of the replay; its rank is its number. `run` serves until `stop` is called. It goes on where its journal
    in the run folder ends; without one a run that resumes starts at the position that its checkpoint holds.
    """

    def __init__(self, context: RoleContext) -> None:
        recipe = context.recipe
        self._presence = enter(recipe, context.storage.folder, context.name, "replay")
        try:
            buffer, board, journal = brought_back(context)
        except JournalHeldError:
            raise
        except JournalError as error:
            advice = f"`leeway run --resume {context.storage.folder}` puts it aside and begins at the newest checkpoint"
            raise JournalError(f"{error}; {advice}") from error
        self._service = ReplayService(
            buffer,
            board,
            self._presence.node,
            recipe.replay.max_message_bytes,
            name=context.name,
            metrics_address=self._presence.metrics,
            clock=context.clock,
            journal=journal,
            kept=KeptFiles(context.storage.folder, sync=recipe.replay.journal.durability == "fsync"),
        )
        journal_folder = place_of(context.storage.folder, context.rank)
        for label, folder in (("run", context.storage.folder), ("journal", journal_folder)):
            metrics.DISK_FREE.labels(label).set_function(partial(room_in, folder))
        self._service.start()
        self._stopping = threading.Event()

    def describe(self) -> Description:
        """Where this process and its service are to be found."""
        return Description(self._presence.metrics, self._service.address)

    def stop(self) -> None:
        self._stopping.set()

    @process.logged
    def run(self) -> None:
        """Serve until `stop` is called.

        Raises:
            RunError: if the service's thread ends by itself.
        """
        while not self._stopping.is_set():
            if self._service.join(WATCH_SECONDS):
                raise RunError("the replay's thread ended; see the log of the replay")
        self._service.stop()


def room_in(folder: Path) -> float:
    """Free space on the disk of a folder (bytes), for this process; NaN where it is not there."""
    try:
        return float(shutil.disk_usage(folder).free)
    except OSError:
        return math.nan


def brought_back(context: RoleContext) -> tuple[Buffer, Board, Journal | None]:
    """Buffer and board as the journal in the run folder has them; without one, as the run's checkpoint or a new run
    begins.

    Raises:
        JournalError: the journal is damaged or of something else, or another process has it.
    """
    recipe, folder, now = context.recipe, context.storage.folder, context.clock()
    snapshot, config = _snapshot(context), recipe.replay.journal
    version = snapshot["version"] if snapshot else 0
    identity, place = identity_of(recipe, folder, version, context.rank), place_of(folder, context.rank)
    journal = None if config.durability == "off" else Journal(place, identity, config)
    past, events = (journal.past, journal.events) if journal else (None, [])
    tasks = tasks_of(recipe)
    vocabulary = vocabulary_of(context.storage.model)
    kept = recipe.replay.max_progress_bytes
    taught = recipe.distillation is not None
    buffer = Buffer(identity.limits, identity.group_size, tasks, snapshot, vocabulary, past, now, kept, taught)
    board = Board(recipe.membership.timeout_seconds, events, first_event(events, time.time()))
    if journal is not None and past is not None:
        journal.retain(buffer.records)
        log.info("%d groups are back from the journal", len(buffer.records))
    for name, role in buffer.state.holders():
        board.members.heard(name, role, now)  # whoever does not come back is taken off, and loses its leases
    return buffer, board, journal


def tasks_of(recipe: Recipe) -> StreamTasks:
    """The tasks of a run."""
    return StreamTasks(TaskStream(recipe.tasks, recipe.seed))


def limits_of(recipe: Recipe, shard: int = 0) -> ReplayLimits:
    """The bounds that a shard's ledger keeps, as the recipe sets them. Each admits its share of what one ledger would,
    so that together they never admit more."""
    config, curriculum = recipe.replay, recipe.tasks.curriculum
    limits = ReplayLimits(
        max_staleness=config.max_staleness,
        groups_per_batch=config.groups_per_batch // config.shards,
        drop_zero_variance=config.drop_zero_variance,
        lease_seconds=config.lease_seconds,
        verify_lease_seconds=config.verify_lease_seconds,
        verify_attempts=config.verify_attempts,
        generation_attempts=config.generation_attempts,
        stragglers=config.stragglers,
        shard=shard,
        shards=config.shards,
    )
    if curriculum is None:
        return limits
    return replace(limits, curriculum_floor=curriculum.floor, curriculum_half_life=curriculum.half_life)


def identity_of(recipe: Recipe, folder: Path, version: int, shard: int = 0) -> Identity:
    """What a shard's journal of a run is of, which begins or resumes at `version`."""
    limits = limits_of(recipe, shard)
    if not recipe.steps:
        limits = replace(limits, tasks=0)  # nothing is trained on, so nothing is generated for it
    return Identity(folder.name, recipe.replay.group_size, limits, version)


def _snapshot(context: RoleContext) -> Mapping[str, Any] | None:
    """The ledger's position in the checkpoint that the run resumes from, see `Ledger.snapshot`.

    Without a journal nothing else says where the run goes on, so that it has to be the checkpoint which the learner
    takes: the newest one that holds what was written. Its files are read, as the learner does.
    """
    checkpoint = context.storage.checkpoint
    if context.recipe.replay.journal.durability == "off":
        sound = newest_whole(context.storage.folder / CHECKPOINTS, contents=True)
        checkpoint = sound[1] if sound else checkpoint
    return None if checkpoint is None else snapshots_of(read_extra(checkpoint)["replay"])[context.rank]
