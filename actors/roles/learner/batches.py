"""Batches on their way to one rank of the learner: a thread fetches the next one while the one before is trained."""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future

from actors.config.recipe import Recipe
from actors.observability import metrics
from actors.observability.waits import waiting
from actors.replay.batch import decode_batch
from actors.replay.clients import AnyClient
from actors.replay.shares import decode_outlines, fill, request_of
from actors.transport.client import POLL_SECONDS
from learner import Group

#: Of a batch of a version, of which tokens from a version on are trained, what a rank reads.
Share = Callable[[list[Group], int, int | None], list[list[int]]]


class Batches:
    """What one rank reads of each batch: all of it, or with several ranks its share.

    Args:
        recipe: of the run.
        client: of the replay, for the thread that fetches.
        executor: has that thread.
        share: of this rank, see `Trainer.share`.
        stopped: whether the run is being stopped.
    """

    def __init__(
        self, recipe: Recipe, client: AnyClient, executor: Executor, share: Share, stopped: Callable[[], bool]
    ) -> None:
        self._steps, self._group_size, self._several = recipe.steps, recipe.replay.group_size, recipe.learner.ranks > 1
        self._oldest_trained = recipe.replay.oldest_trained
        self._client, self._executor, self._share, self._stopped = client, executor, share, stopped

    def fetch(self, version: int) -> "Future[list[Group] | None]":
        """Begin to fetch the batch of `version`; None comes once the run is being stopped, or where it is the end."""
        return self._executor.submit(self._take, version)

    def wait(self, coming: "Future[list[Group] | None]", meanwhile: Callable[[], None]) -> list[Group] | None:
        """The batch that was begun to be fetched, however long it takes; `meanwhile` is called all along."""
        start = time.monotonic()
        with waiting("the replay", "a full batch"):
            while not coming.done() and not self._stopped():
                meanwhile()
                try:
                    coming.result(POLL_SECONDS)
                except TimeoutError:
                    continue
        metrics.BATCH_WAIT.inc(time.monotonic() - start)
        return coming.result(POLL_SECONDS) if not self._stopped() else None

    def whole(self, version: int) -> list[Group]:
        """All of a batch that was delivered and is not committed yet."""
        batch = self._client.request("take_batch", {"version": version})
        return decode_batch(batch.body, batch.arrays, self._group_size)

    def _take(self, version: int) -> list[Group] | None:
        while not self._stopped() and version < self._steps:
            batch = self._client.poll("take_batch", {"version": version, "outlines": self._several})
            if batch and not self._several:
                return decode_batch(batch.body, batch.arrays, self._group_size)
            if batch and (groups := self._take_share(version, decode_outlines(batch.body, self._group_size))):
                return groups
        return None

    def _take_share(self, version: int, outlines: list[Group]) -> list[Group] | None:
        """The batch with the payloads that this rank reads; None where the replay is away for a moment."""
        share = self._share(outlines, version, self._oldest_trained(version))
        if not any(share):
            return outlines
        found = self._client.poll("take_payloads", request_of(version, outlines, share), wait_seconds=0.0)
        return fill(outlines, share, found.arrays) if found else None


def staleness_of(groups: Iterable[Group], version: int, oldest: int | None) -> dict[int, int]:
    """Trained tokens by how many versions older than `version` they are; those older than `oldest` are not trained."""
    versions = (v for group in groups for c in group.completions for v in c.unmasked(c.versions).tolist())
    return dict(Counter(int(version - v) for v in versions if v >= (oldest or 0)))
