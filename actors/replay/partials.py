"""Progress of groups that are being generated, and of tasks that lost their generator and wait for the next.

reported ──▶ of a group ──group_arrived, dropped for good──▶ forgotten
                  └──its generator or its lease is lost──▶ of a task ──leased again──▶ of the new group

It is kept in memory alone: where the replay is lost, generators report what they have anew, and what only it knew is
generated again. What arrives where there is no room is not kept, and its generator reports it again later.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from actors.errors import ProtocolError
from actors.replay.bundle import bundled
from actors.replay.ledger import Ledger
from actors.replay.messages import RenewLeases, ReportProgress
from actors.replay.progress import NOTHING, End, Partial, decode_progress, encode_progress
from actors.replay.queues import State
from actors.transport.codec import Array

Key = tuple[str, int]


@dataclass(slots=True)
class Partials:
    """See the module's docstring. Keys are a purpose and a group_id, or a purpose and the number of a task.

    Attributes:
        max_bytes: most that is kept of tokens, log-probabilities and routed experts.
        nbytes: what is kept of them now.
    """

    max_bytes: int
    nbytes: int = 0
    _of_groups: dict[Key, tuple[int, list[Partial]]] = field(default_factory=dict)
    _of_tasks: dict[Key, list[Partial]] = field(default_factory=dict)

    def progress(
        self,
        request: ReportProgress,
        arrays: Mapping[str, Array],
        ledger: Ledger | None,
        samples: int,
        vocabulary: int | None,
        now: float,
    ) -> dict[str, Any]:
        """The body of the answer to a report: what is `held` by now, see `report`, or that the group is `lost`.

        Args:
            request: what is reported on.
            arrays: what is reported.
            ledger: of the request's purpose, where there is one.
            samples: completions of the group.
            vocabulary: number of the model's token ids, where it is known.
            now: seconds of the ledger's clock.

        Raises:
            ProtocolError: the report is malformed; nothing has changed then.
        """
        entry = ledger.entries.get(request.group_id) if ledger else None
        if ledger is None or entry is None or entry.holder != request.worker or entry.state is not State.LEASED:
            return {"lost": [request.group_id]}
        parts, offsets = decode_progress(arrays, samples, vocabulary)
        held = self.report(request.purpose, request.group_id, entry.task, parts, offsets)
        ledger.progressed(request.group_id, now)
        return {"lost": [], "held": held}

    def report(
        self, purpose: str, group_id: int, task: int, parts: Sequence[Partial], offsets: Sequence[int]
    ) -> list[int]:
        """Take over what is new of a leased group.

        Returns:
            How many tokens are known of each completion now, from which on the next report has to tell.

        Raises:
            ProtocolError: a completion has ended without a token.
        """
        _, held = self._of_groups.get((purpose, group_id), (task, [NOTHING] * len(parts)))
        grown = [_extended(old, part, offset) for old, part, offset in zip(held, parts, offsets, strict=True)]
        more = sum(part.nbytes for part in grown) - sum(part.nbytes for part in held)
        if self.nbytes + more <= self.max_bytes:
            self.nbytes += more
            self._of_groups[purpose, group_id], held = (task, grown), grown
        return [len(part) for part in held]

    def lost(self, purpose: str, group_id: int) -> None:
        """The group's lease is over, and its task will be leased again."""
        task, parts = self._of_groups.pop((purpose, group_id), (0, []))
        if parts:
            self.nbytes -= _size(self._of_tasks.get((purpose, task), []))
            self._of_tasks[purpose, task] = parts

    def forget(self, purpose: str, group_id: int) -> None:
        """The group is complete, or will never be."""
        _, parts = self._of_groups.pop((purpose, group_id), (0, []))
        self.nbytes -= _size(parts)

    def forget_all(self, purpose: str) -> None:
        """No group or task of this purpose will be asked for again."""
        for key in [key for key in self._of_groups if key[0] == purpose]:
            self.forget(*key)
        for key in [key for key in self._of_tasks if key[0] == purpose]:
            self.nbytes -= _size(self._of_tasks.pop(key))

    def to_continue(self, tasks: Sequence[Mapping[str, Any]], ledger: Ledger) -> dict[str, Array]:
        """What was reported of tasks that are leased again: arrays of `encode_progress`, bundled by the positions of
        the tasks. `leased_parts` takes them apart.

        Args:
            tasks: what the generator is told of each.
            ledger: of training.
        """
        arrays: dict[str, Array] = {}
        for position, task in enumerate(tasks):
            oldest = ledger.oldest_allowed(task["group_id"]) if task["purpose"] == "train" else 0
            if parts := self.resume(task["purpose"], task["group_id"], task["task"], oldest):
                if task["purpose"] == "train":
                    ledger.begin_at(task["group_id"], min(part.oldest for part in parts if part.oldest is not None))
                arrays |= bundled(position, encode_progress(parts, [0] * len(parts)))
        return arrays

    def resume(self, purpose: str, group_id: int, task: int, oldest: int) -> list[Partial]:
        """What a task that is leased as a new group begins with; empty where it begins anew. Asked again, for a
        generator that has not heard of its lease, it is the same.

        Args:
            purpose: of the group.
            group_id: of the new group.
            task: its number.
            oldest: a completion with a token of an earlier version would come too late, and begins anew.
        """
        if (purpose, group_id) in self._of_groups:
            return self._of_groups[purpose, group_id][1]
        parts = self._of_tasks.pop((purpose, task), [])
        fresh = [NOTHING if part.oldest is not None and part.oldest < oldest else part for part in parts]
        self.nbytes += _size(fresh) - _size(parts)
        if not any(len(part) for part in fresh):
            return []
        self._of_groups[purpose, group_id] = (task, fresh)
        return fresh


def _extended(held: Partial, part: Partial, offset: int) -> Partial:
    """What is known after a report that begins at `offset`: nothing new where something before it is missing."""
    if offset > len(held) or offset + len(part) < len(held):
        return held
    grown = held.plus(part.since(len(held) - offset))
    if grown.end is not End.RUNNING and not len(grown):
        raise ProtocolError("the progress is inconsistent: a completion has ended without a token")
    return grown


def _size(parts: Sequence[Partial]) -> int:
    return sum(part.nbytes for part in parts)


def renewed(request: RenewLeases, ledger: Ledger | None, now: float) -> dict[str, Any]:
    """Renew leases; the body of the answer names those that are `lost` to the sender."""
    if ledger is None:
        return {"lost": request.group_ids}
    ledger.renew(request.worker, request.group_ids, now)
    holders = {i: entry.holder for i in request.group_ids if (entry := ledger.entries.get(i))}
    return {"lost": [i for i in request.group_ids if holders.get(i) != request.worker]}
