"""One role alone in this process, without Ray: for systemd, Slurm or another cluster.

built ──▶ runs ──┬─ ends by itself: its work is done, or an error ─────────▶ end
                 ├─ told to end: `stop`, and a grace period ───────────────▶ end
                 └─ the replay says nothing for too long: the run is over ─▶ stopped, and an error
"""

import logging
import threading
from collections.abc import Callable
from contextlib import closing, suppress

from actors.deadline import until
from actors.errors import PeerTimeoutError, ProtocolError, RunError
from actors.replay.clients import connect
from actors.replay.shards import service_of
from actors.roles.role import Leaver, Role, RoleContext, build
from actors.transport.address import endpoints, joined
from actors.transport.client import Client

log = logging.getLogger(__name__)

#: How often it is looked whether the role has ended, or is to (s).
WATCH_SECONDS = 0.2
#: Longest wait for the replay to hear that the role has left (s).
LEAVE_SECONDS = 2.0


def every_shard(address: str, shards: int, worker: str, role: str, seconds: float, stopped: Callable[[], bool]) -> str:
    """The addresses of all shards of a replay, with commas between; the first shard knows them of the run's controller.

    Args:
        address: of the first, or of all.
        shards: how many there are.
        worker, role: who asks.
        seconds: longest wait for the first shard to know (s).
        stopped: whether this process is to end; what is returned then is nothing that could be used.

    Raises:
        RunError: the first shard does not know them in time.
    """
    if len(endpoints(address)) == shards:
        return address
    known: list[str] = []
    with closing(Client(address, worker, role)) as client:

        def look() -> bool:
            with suppress(PeerTimeoutError):
                told = client.request("directory", deadline_seconds=WATCH_SECONDS).body["services"]
                known[:] = filter(None, (told.get(service_of(shard)) for shard in range(1, shards)))
            return stopped() or len(known) == shards - 1

        found = until(look, seconds, interval=WATCH_SECONDS)
    if not found:
        raise RunError(
            f"the replay at {address} has not said within {seconds:g} s where the other {shards - 1} of its "
            f"{shards} shards are; does its run have as many, and a controller? Else name all of them in --join"
        )
    return joined([address, *known])


class StuckError(RunError):
    """A role was told to end and did not: its threads keep the process from ending by itself."""


class Alone:
    """A role and the thread that it runs in.

    Args:
        role: what it is.
        context: as of any starter.
        patience_seconds: the run is taken for over where its replay has answered none of the role's requests for so
            long (s).
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
        alone_seconds = 0.0
        while self._thread.is_alive() and not stopped() and alone_seconds < self._patience:
            self._thread.join(WATCH_SECONDS)
            if self._context.replay:
                alone_seconds = self._context.lifeline.alone(WATCH_SECONDS)
        self._end()
        if self._failure is not None:
            raise self._failure
        if alone_seconds >= self._patience:
            raise RunError(
                f"the replay at {self._context.replay} has not answered for {self._patience:g} s: the run is over, or "
                "the way there is cut"
            )

    def _run(self) -> None:
        try:
            self._role.run()
        except BaseException as error:  # noqa: BLE001 - handed on to the thread that waits for this one
            self._failure = error

    def _end(self) -> None:
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
        if self._context.replay and not left:
            self._leave()

    def _leave(self) -> None:
        """Have what it held issued again at once."""
        context = self._context
        with closing(connect(context.replay, context.name, self._role_name)) as client:
            try:
                client.request("remove_member", {"name": context.name}, deadline_seconds=LEAVE_SECONDS)
            except (PeerTimeoutError, ProtocolError) as error:
                log.info("%s; the list of members will notice", error)
