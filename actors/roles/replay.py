"""The replay as a role: the service, and the tasks behind its numbers."""

import secrets
import threading
from collections.abc import Mapping
from typing import Any

from actors import process
from actors.config.roles import ReplayConfig
from actors.errors import RunError
from actors.models.tokenizer import vocabulary_of
from actors.replay.board import Board
from actors.replay.buffer import Buffer
from actors.replay.ledger import ReplayLimits
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
    """`run` serves until `stop` is called; a run that resumes starts at the position that its checkpoint holds."""

    def __init__(self, context: RoleContext) -> None:
        recipe, replay = context.recipe, context.recipe.replay
        self._presence = enter(recipe, context.storage.folder, context.name)
        tasks = StreamTasks(TaskStream(recipe.tasks, recipe.seed))
        self._service = ReplayService(
            Buffer(
                limits_of(replay),
                replay.group_size,
                tasks,
                _snapshot(context.storage),
                vocabulary_of(context.storage.model),
                replay.max_progress_bytes,
            ),
            Board(recipe.membership.timeout_seconds, secrets.token_hex(4)),
            self._presence.node,
            replay.max_message_bytes,
            name=context.name,
            metrics_address=self._presence.metrics,
            clock=context.clock,
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
    )


def _snapshot(storage: Storage) -> Mapping[str, Any] | None:
    """The ledger's position in the checkpoint that the run resumes from, see `Ledger.snapshot`."""
    if storage.checkpoint is None:
        return None
    snapshot: Mapping[str, Any] = read_extra(storage.checkpoint)["replay"]
    return snapshot
