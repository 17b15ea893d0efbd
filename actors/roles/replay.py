"""The replay as an actor: the service, and the tasks behind its numbers."""

import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from actors import process
from actors.config.recipe import Recipe
from actors.errors import RunError
from actors.replay.buffer import Replay
from actors.replay.ledger import ReplayLimits
from actors.replay.service import ReplayService
from actors.tasks import Task, TaskStream
from actors.transport.address import resolve, split

log = logging.getLogger(__name__)


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
    }


class ReplayHost:
    """`run` serves until `stop` is called."""

    def __init__(self, recipe: Recipe, folder: Path, snapshot: Mapping[str, Any] | None) -> None:
        node = resolve(recipe.network, recipe.ray.address is not None)
        self._metrics_port = split(process.begin("replay", folder, node))[1]
        r = recipe.replay
        limits = ReplayLimits(
            max_staleness=r.max_staleness,
            groups_per_batch=r.groups_per_batch,
            drop_zero_variance=r.drop_zero_variance,
            lease_seconds=r.lease_seconds,
            verify_lease_seconds=r.verify_lease_seconds,
            verify_attempts=r.verify_attempts,
        )
        tasks = StreamTasks(TaskStream(recipe.tasks, recipe.seed))
        core = Replay(limits, r.group_size, tasks, snapshot)
        self._service = ReplayService(
            core, node.bind, recipe.network.ports.replay, r.max_message_bytes, r.worker_silence_seconds
        )
        self._service.start()
        self._stopping = threading.Event()

    def describe(self) -> dict[str, Any]:
        """Where this process and its service are to be found."""
        return {"metrics_port": self._metrics_port, "address": self._service.address}

    def stop(self) -> None:
        self._stopping.set()

    @process.logged
    def run(self) -> None:
        """Raises RunError where the service's thread ends by itself."""
        while not self._stopping.is_set():
            if self._service.join(0.2):
                raise RunError("the replay's thread ended; see logs/replay.log")
        self._service.stop()
