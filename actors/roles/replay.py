"""The replay as a role: the service, and the tasks behind its numbers."""

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from actors import process
from actors.config.recipe import Recipe
from actors.config.roles import ReplayConfig
from actors.errors import RunError
from actors.models.tokenizer import vocabulary_of
from actors.replay.board import Board, first_event
from actors.replay.buffer import Buffer
from actors.replay.journal import FOLDER, Identity, Journal
from actors.replay.limits import ReplayLimits
from actors.replay.service import ReplayService
from actors.roles.role import Description, RoleContext, Storage, enter
from actors.tasks import Task, TaskStream
from learner.extra import read_extra

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
        "reference": dict(task.reference),
        "source": task.source,
    }


class ReplayRole:
    """`run` serves until `stop` is called. It goes on where the journal in the run folder ends; without one a run that
    resumes starts at the position that its checkpoint holds.
    """

    def __init__(self, context: RoleContext) -> None:
        recipe, replay = context.recipe, context.recipe.replay
        self._presence = enter(recipe, context.storage.folder, context.name)
        tasks = StreamTasks(TaskStream(recipe.tasks, recipe.seed))
        snapshot = _snapshot(context.storage)
        journal = _journal(recipe, context.storage.folder, snapshot)
        buffer = Buffer(
            limits_of(replay),
            replay.group_size,
            tasks,
            snapshot,
            vocabulary_of(context.storage.model),
            journal.past if journal else None,
            context.clock(),
            replay.max_progress_bytes,
        )
        events = journal.events if journal else []
        if journal is not None and journal.past is not None:
            journal.retain(buffer.records)
            if snapshot is not None:
                buffer.commit(snapshot["version"])
        board = Board(recipe.membership.timeout_seconds, events, first_event(events, time.time()))
        for name, role in buffer.state.holders():
            board.members.heard(name, role, context.clock())  # or else it is taken off, and its leases are revoked
        self._service = ReplayService(
            buffer,
            board,
            self._presence.node,
            replay.max_message_bytes,
            name=context.name,
            metrics_address=self._presence.metrics,
            clock=context.clock,
            journal=journal,
        )
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


def limits_of(config: ReplayConfig) -> ReplayLimits:
    """The bounds that the ledger keeps, as the recipe sets them."""
    return ReplayLimits(
        max_staleness=config.max_staleness,
        groups_per_batch=config.groups_per_batch,
        drop_zero_variance=config.drop_zero_variance,
        lease_seconds=config.lease_seconds,
        verify_lease_seconds=config.verify_lease_seconds,
        verify_attempts=config.verify_attempts,
        generation_attempts=config.generation_attempts,
        stragglers=config.stragglers,
    )


def identity_of(recipe: Recipe, folder: Path, version: int) -> Identity:
    """What the journal of a run is of, which begins or resumes at `version`."""
    return Identity(folder.name, recipe.replay.group_size, limits_of(recipe.replay), version)


def _journal(recipe: Recipe, folder: Path, snapshot: Mapping[str, Any] | None) -> Journal | None:
    config = recipe.replay.journal
    if config.durability == "off":
        return None
    return Journal(folder / FOLDER, identity_of(recipe, folder, snapshot["version"] if snapshot else 0), config)


def _snapshot(storage: Storage) -> Mapping[str, Any] | None:
    """The ledger's position in the checkpoint that the run resumes from, see `Ledger.snapshot`."""
    if storage.checkpoint is None:
        return None
    snapshot: Mapping[str, Any] = read_extra(storage.checkpoint)["replay"]
    return snapshot
