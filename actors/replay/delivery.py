"""What is counted of a group when it goes to the learner."""

from dataclasses import dataclass

from actors.errors import ProtocolError
from actors.replay.ledger import Ledger
from actors.replay.limits import ReplayLimits
from actors.replay.payload import Payload
from actors.replay.queues import Entry


@dataclass(frozen=True, slots=True)
class Delivery:
    """A group went to the learner for the first time.

    Attributes:
        staleness: of its oldest token (versions).
        queue_age_seconds: since its verdict.
        length: tokens of its longest completion.
        masked_tokens: those that are too old to be trained.
        group_id: what it is called everywhere.
    """

    staleness: int
    queue_age_seconds: float
    length: int = 0
    masked_tokens: int = 0
    group_id: int = 0


def delivery(version: int, entry: Entry, payload: Payload | None, queue_age: float, limits: ReplayLimits) -> Delivery:
    """The delivery of a group for the batch of `version`."""
    assert payload is not None
    masked = payload.tokens_below(version - limits.max_staleness) if limits.stragglers == "mask" else 0
    return Delivery(version - entry.oldest, queue_age, payload.longest, masked, entry.group_id)


def require_kept(ledger: Ledger, version: int) -> None:
    """Raises ProtocolError where the batch of a version is committed: no other could be trained in its place."""
    if version < ledger.version and version not in ledger.batches:
        raise ProtocolError(
            f"the batch of version {version} is committed, and its groups are gone: a newer checkpoint than the "
            "learner's was durable; put it back in its place"
        )
