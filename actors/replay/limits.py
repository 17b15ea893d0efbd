"""The bounds that the ledger keeps, and why it drops groups."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class Reason(StrEnum):
    """Why a group was dropped."""

    STALE = "stale"
    ZERO_VARIANCE = "zero_variance"
    INFRA_ERROR = "infra_error"
    MALFORMED = "malformed"
    OVERLONG = "overlong"
    LEASE_EXPIRED = "lease_expired"
    WORKER_LOST = "worker_lost"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    RETURNED = "returned"


#: The task itself was not at fault, so it is issued again; every other reason would only repeat itself.
REISSUED = frozenset({Reason.STALE, Reason.LEASE_EXPIRED, Reason.WORKER_LOST, Reason.RETURNED})


@dataclass(frozen=True, slots=True)
class ReplayLimits:
    """The bounds that a ledger keeps; see `ReplayConfig` for their units. `tasks` is how many there are: no end to
    them by default. Of a replay in `shards` this is the one with the number `shard`: its tasks and groups have the
    numbers n with n mod shards = shard, and `groups_per_batch` is its share. With a `curriculum_floor` of 1 there is no
    curriculum.
    """

    max_staleness: int
    groups_per_batch: int
    drop_zero_variance: bool = True
    lease_seconds: float = 120.0
    verify_lease_seconds: float = 30.0
    verify_attempts: int = 3
    generation_attempts: int = 3
    tasks: int | None = None
    stragglers: Literal["drop", "wait", "mask"] = "drop"
    shard: int = 0
    shards: int = 1
    curriculum_floor: float = 1.0
    curriculum_half_life: float = 2.0

    def number(self, count: int) -> int:
        """The number of the shard's task or group before which it has had `count`."""
        return count * self.shards + self.shard
