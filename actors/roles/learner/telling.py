"""What a learner tells the watchers of its run, and the evaluations that it asks for."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from actors.errors import PeerTimeoutError, ProtocolError
from actors.events import Event, Phase, WeightSync
from actors.observability.waits import waiting
from actors.replay.clients import AnyClient
from actors.roles.learner.held_out import await_evaluation

log = logging.getLogger(__name__)


class Telling:
    """For any thread.

    Args:
        client: of the replay.
        notices: another, for the publisher's thread.
        stall_seconds: an evaluation is given up after so long without progress (s).
        stopped: whether the run is being stopped.
    """

    def __init__(
        self, client: AnyClient, notices: AnyClient, stall_seconds: float, stopped: Callable[[], bool]
    ) -> None:
        self._client, self._notices, self._stall_seconds, self._stopped = client, notices, stall_seconds, stopped

    def notify(self, event: Event) -> None:
        """Tell whoever watches the run. An event that the replay rejects is missing in the record, and ends nothing."""
        _notice(self._client, event)

    def phase(self, name: str, detail: str) -> None:
        """What is done now. Whatever is left once the run is being stopped is passed through, and is not done."""
        if not self._stopped():
            self.notify(Phase(name=name, detail=detail))

    def synced(self, event: WeightSync) -> None:
        """Called by the publisher's thread, which must outlive a replay that is away for a moment."""
        try:
            _notice(self._notices, event)
        except PeerTimeoutError as error:
            log.warning("%s; one weight update is missing in the record", error)

    def evaluate(
        self,
        name: str,
        version: int,
        samples: int,
        wait: bool,
        training: int = 0,
        keep: bool = False,
        provenance: Mapping[str, str | int] | None = None,
    ) -> None:
        """Ask for an evaluation (see `replay.evaluation.Asked`); with `wait`, return when it is over.

        Raises what `await_evaluation` does.
        """
        body: dict[str, Any] = {
            "name": name,
            "version": version,
            "samples": samples,
            "training": training,
            "keep": keep,
        }
        body["provenance"] = dict(provenance or {})
        number = self._client.request("evaluate", body).body["evaluation"]
        if wait:
            self.phase("evaluation", name)
            with waiting("generators and verifiers", f"the evaluation {name!r}"):
                await_evaluation(
                    lambda kind, body: self._client.request(kind, body).body,
                    number,
                    name,
                    self._stall_seconds,
                    stopped=self._stopped,
                )


def _notice(client: AnyClient, event: Event) -> None:
    try:
        client.request("notice", {"event": event.model_dump()})
    except ProtocolError as error:
        log.warning("%s", error)
