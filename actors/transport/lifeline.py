"""Whom a process depends on: where the replay is now, and whether it and the controller are still heard of.

controller ──told──▶ Lifeline ◀──answered── every client of the process
                        │ replay
                        └──▶ clients, wherever they connect again
"""

from typing import Protocol

from actors.transport.address import endpoints

#: A reply is due after so long (s), where whoever asks has no more patience.
REPLY_SECONDS = 10.0


class ShardLine(Protocol):
    """What a client needs to know of the one that it asks."""

    patience_seconds: float

    @property
    def replay(self) -> str:
        """Its address now."""
        ...

    def answered(self) -> None:
        """It has answered a request."""

    def unanswered(self) -> None:
        """It has not answered a request in time, or the connection to it is lost."""


class Lifeline:
    """One process's. It travels to the process in its context, and threads share it: every field is written whole.

    Args:
        replay: where the replay is, with commas between the addresses of its shards; empty for the replay itself.
        patience_seconds: how long a request waits for a replay that is being replaced (s).

    Attributes:
        replay: where the replay is now.
        shards: each of them, for a client of its own.
    """

    def __init__(self, replay: str, patience_seconds: float = REPLY_SECONDS) -> None:
        self.replay, self.patience_seconds = replay, patience_seconds
        self._depends_on_replay = bool(replay)
        self._answered = self._told = True
        self._alone_seconds = 0.0
        self.shards = [Shard(self, number) for number in range(len(endpoints(replay)))]

    def told(self, replay: str) -> None:
        """The controller lives, and says where the replay is; nothing, where it does not know."""
        self.replay = replay or self.replay
        self._told = True

    def answered(self) -> None:
        """The replay has answered a request."""
        self._answered = True

    def unanswered(self) -> None:
        """Some request was not answered, and will be sent again."""

    def alone(self, seconds: float) -> float:
        """For how long nobody was heard of (s). To be asked regularly, by one thread.

        Args:
            seconds: since it was asked last (s). Time in which this process stood still, and could hear of nobody, is
                thus counted once at most.
        """
        heard = self._told or (self._depends_on_replay and self._answered)
        self._told = self._answered = False
        self._alone_seconds = 0.0 if heard else self._alone_seconds + seconds
        return self._alone_seconds


class Shard:
    """One shard of the replay, as the clients of a process see it together.

    Attributes:
        away: whether it did not answer one of them lately. Heartbeats go on, so that its return is noticed.
    """

    def __init__(self, lifeline: Lifeline, number: int) -> None:
        self._lifeline, self._number = lifeline, number
        self.patience_seconds = lifeline.patience_seconds
        self.away = False

    @property
    def replay(self) -> str:
        return endpoints(self._lifeline.replay)[self._number]

    def answered(self) -> None:
        self.away = False
        self._lifeline.answered()

    def unanswered(self) -> None:
        self.away = True
