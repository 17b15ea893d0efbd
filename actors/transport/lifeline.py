"""Whom a process depends on: where the replay is now, and whether it and the controller are still heard of.

controller ──told──▶ Lifeline ◀──answered── every client of the process
                        │ replay
                        └──▶ clients, wherever they connect again
"""

#: A reply is due after so long (s), where whoever asks has no more patience.
REPLY_SECONDS = 10.0


class Lifeline:
    """One process's. It travels to the process in its context, and threads share it: every field is written whole.

    Args:
        replay: where the replay is; empty for the replay itself.
        patience_seconds: how long a request waits for a replay that is being replaced (s).

    Attributes:
        replay: where the replay is now.
    """

    def __init__(self, replay: str, patience_seconds: float = REPLY_SECONDS) -> None:
        self.replay, self.patience_seconds = replay, patience_seconds
        self._depends_on_replay = bool(replay)
        self._answered = self._told = True
        self._alone_seconds = 0.0

    def told(self, replay: str) -> None:
        """The controller lives, and says where the replay is; nothing, where it does not know."""
        self.replay = replay or self.replay
        self._told = True

    def answered(self) -> None:
        """The replay has answered a request."""
        self._answered = True

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
