"""One role alone in this process, without Ray: for systemd, Slurm or another cluster.

built ──▶ runs ──┬─ ends by itself: its work is done, or an error ─────────▶ end
                 ├─ told to end: `stop`, and a grace period ───────────────▶ end
                 └─ the replay says nothing for too long: the run is over ─▶ stopped, and an error
"""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import closing

from actors.errors import PeerTimeoutError, ProtocolError, RunError
from actors.roles.role import Leaver, Role, RoleContext, build
from actors.transport.client import Client

log = logging.getLogger(__name__)

#: How often it is looked whether the role has ended, or is to (s).
WATCH_SECONDS = 0.2
#: How often the replay is asked whether it is there (s).
ASK_SECONDS = 5.0
#: Longest wait for its answer (s).
ANSWER_SECONDS = 10.0
#: Longest wait for the replay to hear that the role has left (s).
LEAVE_SECONDS = 2.0


class StuckError(RunError):
    """A role was told to end and did not: its threads keep the process from ending by itself."""


class Alone:
    """A role and the thread that it runs in.

    Args:
        role: what it is.
        context: as of any starter.
        patience_seconds: the run is taken for over where its replay has not answered for so long (s).
    """

    def __init__(self, role: str, context: RoleContext, patience_seconds: float) -> None:
        self._role_name, self._context, self._patience = role, context, patience_seconds
        self._role: Role = build(role, context)
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=role, daemon=True)

    def describe(self) -> str:
        """Where others reach its service, or its metrics where it has none."""
        described = self._role.describe()
        return described.address or f"http://{described.metrics}/metrics"

    def run(self, stopped: Callable[[], bool]) -> None:
        """Until the role ends, or `stopped` says that it is to.

        Raises:
            RunError: the run is over, or the role does not end.
            Exception: what broke it.
        """
        self._thread.start()
        if self._context.replay:
            with closing(Client(self._context.replay, self._context.name, self._role_name)) as client:
                self._watch(stopped, client)
        else:
            self._watch(stopped, None)

    def _run(self) -> None:
        try:
            self._role.run()
        except BaseException as error:  # noqa: BLE001 - handed on to the thread that waits for this one
            self._failure = error

    def _watch(self, stopped: Callable[[], bool], client: Client | None) -> None:
        heard = asked = time.monotonic()
        gone = False
        while self._thread.is_alive() and not stopped() and not gone:
            self._thread.join(WATCH_SECONDS)
            if client is not None and time.monotonic() - asked > ASK_SECONDS:
                if _answers(client):
                    heard = time.monotonic()
                asked = time.monotonic()
                gone = asked - heard > self._patience
        self._end(client)
        if self._failure is not None:
            raise self._failure
        if gone:
            raise RunError(
                f"the replay at {self._context.replay} has not answered for {self._patience:g} s: the run is over, or "
                "the way there is cut"
            )

    def _end(self, client: Client | None) -> None:
        recipe, left = self._context.recipe, False
        if isinstance(self._role, Leaver):
            self._role.drain()
            self._thread.join(recipe.generators.drain_seconds)
            left = not self._thread.is_alive() and self._failure is None
        seconds = recipe.controller.wind_down_seconds
        self._role.stop()
        self._thread.join(seconds)
        if self._thread.is_alive():
            raise StuckError(f"{self._context.name} did not end within {seconds:g} s, and is killed")
        if client is not None and not left:
            try:  # what it held is issued again at once
                client.request("remove_member", {"name": self._context.name}, deadline_seconds=LEAVE_SECONDS)
            except (PeerTimeoutError, ProtocolError) as error:
                log.info("%s; the list of members will notice", error)


def _answers(client: Client) -> bool:
    try:
        client.request("directory", deadline_seconds=ANSWER_SECONDS)
    except PeerTimeoutError as error:
        log.warning("%s", error)
        return False
    except ProtocolError as error:
        log.warning("%s", error)
    return True
