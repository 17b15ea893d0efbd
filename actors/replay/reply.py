"""What the replay answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from actors.events import Event
from actors.replay.delivery import Delivery
from actors.replay.rewards import Verified
from actors.transport.codec import Array


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a request, and what happened by it; `submitted` is the longest completion of a group (tokens)."""

    body: Mapping[str, Any]
    arrays: Mapping[str, Array] = field(default_factory=dict)
    events: tuple[Event, ...] = ()
    delivered: tuple[Delivery, ...] = ()
    verified: tuple[Verified, ...] = ()
    submitted: int | None = None


ACCEPTED = {"accepted": True}
OK = Reply({})
#: The lease is over: the group was given to somebody else, or is not needed any more.
LEASE_LOST = Reply({"accepted": False})
