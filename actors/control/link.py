"""The controller's connection to the replay, or to one shard of it, which may be silent, dead, or coming up again
elsewhere."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from actors.errors import PeerTimeoutError, ProtocolError
from actors.transport.client import Client
from actors.transport.lifeline import Lifeline

log = logging.getLogger(__name__)

#: Longest wait for the replay to say how things are (s). The next look comes soon, and before it one for who has ended:
#: a replay that died must not be waited for.
REPLAY_SECONDS = 2.0


class ReplayClient(Protocol):
    """The part of a client that is needed here."""

    def request(self, kind: str, body: Mapping[str, Any] | None = None, *, deadline_seconds: float) -> Any: ...

    def close(self) -> None: ...


class ReplayLink:
    """Asks the replay, as long as there is one to ask. One thread asks.

    Args:
        name: of the replay's process.
        clock: seconds of a monotonic clock.

    Attributes:
        silent: whether it did not answer the latest request.
        up: whether there is a replay, as far as the controller knows.
        client: what asks; tests put another in its place.
    """

    def __init__(self, name: str = "replay", clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self._clock, self._lifeline = clock, Lifeline("")
        self.client: ReplayClient | None = None
        self.silent, self.up = False, False
        self._heard = clock()

    def found(self, address: str) -> None:
        """The replay is up, and to be asked at an address."""
        self._lifeline.told(address)
        if self.client is None:
            self.client = Client(self._lifeline, "controller", "controller")
        self.up = True

    def lost(self) -> None:
        """It has ended; another is coming up."""
        self.up, self.silent, self._heard = False, True, self._clock()

    @property
    def silent_seconds(self) -> float:
        """Time since it answered (s); 0 where it does."""
        return self._clock() - self._heard if self.silent else 0.0

    def ask(
        self, kind: str, body: Mapping[str, Any] | None = None, seconds: float = REPLAY_SECONDS
    ) -> Mapping[str, Any] | None:
        """A request to the replay; None where there is none now, or where it does not answer in time."""
        if self.client is None or not self.up:
            return None
        try:
            reply: Mapping[str, Any] = self.client.request(kind, body, deadline_seconds=seconds).body
        except (PeerTimeoutError, ProtocolError) as error:
            self.silent = isinstance(error, PeerTimeoutError)
            log.warning("%s", error)
            return None
        self.silent, self._heard = False, self._clock()
        return reply

    def close(self) -> None:
        if self.client is not None:
            self.client.close()
