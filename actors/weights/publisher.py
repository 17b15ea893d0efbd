"""The learner's end of weight synchronisation: who receives, and a thread that sends the newest version.

Generators register on a ROUTER socket. Those that lack the newest version form a *membership epoch* with a broadcast
group of its own; a generator that comes, goes or misses a deadline starts a new epoch, and nobody else notices.

    registered, and alive by the run's one list of members    receives
    registered, and fallen off the list                       is skipped; once back, it gets what it missed
    failed in an update                                       is evicted, and told to register anew; see `retries`
    in an update that another one broke                       is told to give it up, and is in the next
    holds a newer version, of the learner before              keeps it until the learner has passed it

Where other ranks of the learner send stripes of the weights, they are in every epoch: nobody gets weights while one of
them is away, and one that fails in an update or falls off the list is treated as a generator is.

A learner that came back from a checkpoint trains the same batches again. The versions that it makes are those that the
generators hold already: bit-identical on CPUs, on GPUs the same but for the rounding of their kernels. To send them
once more would only age the completions under way, whose logprobs are those of the weights that sampled them.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import wait
from dataclasses import asdict, dataclass
from functools import partial

import torch

from actors.config.roles import WeightsConfig
from actors.errors import RunError
from actors.events import WeightSync
from actors.observability import metrics
from actors.process import Seldom
from actors.transport.address import Node
from actors.transport.codec import Message
from actors.weights.background import Abandoned, in_background
from actors.weights.broadcast import BroadcastTransport, options_of
from actors.weights.participants import IDLE_SECONDS, Participant, Participants
from actors.weights.retries import Retries
from actors.weights.session import Epoch, Measured, MembersLostError, SupersededError, Tensors, Transport
from learner.model.merging import Merging

log = logging.getLogger(__name__)

#: While an update is under way, its members are looked at this often (s).
WATCH_SECONDS = 0.1
#: Longest end of the thread (s).
CLOSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class WeightSnapshot:
    version: int
    tensors: Tensors


class Publisher:
    """Sends snapshots to all generators, the newest first; older ones that were not sent yet are skipped.

    Args:
        config: the recipe's section.
        node: where to listen; `endpoint` is what generators connect to.
        dtype: of the weights on the wire.
        alive: names of the generators, and of the senders, on the list of members, from any thread.
        timeout_seconds: the list's; for so long a generator that has just registered need not be on it yet (s).
        on_sync: called with the event after each update, in the thread that sends.
        merging: how generators merge the snapshots, where these are adapters alone.
        device: whose memory the bytes pass through, where they pass through any but the host's.
        transport: what carries the bytes.
        senders: names of the learner's other ranks that send, in the order of their stripes; see `stripe_sender`.

    Attributes:
        endpoint: where generators and senders find it.
    """

    def __init__(
        self,
        config: WeightsConfig,
        node: Node,
        dtype: torch.dtype,
        *,
        alive: Callable[[], frozenset[str]],
        timeout_seconds: float,
        on_sync: Callable[[WeightSync], None] = lambda _: None,
        merging: Merging | None = None,
        device: torch.device | None = None,
        transport: Callable[..., Transport] = BroadcastTransport,
        senders: Sequence[str] = (),
    ) -> None:
        self._config, self._on_sync = config, on_sync
        self._connect = partial(transport, **options_of(config, node, dtype, device or torch.device("cpu")))
        self._merging = None if merging is None else asdict(merging)
        self._participants = Participants(node, alive, timeout_seconds, config.deadline_seconds)
        self.endpoint = self._participants.endpoint
        self._senders = tuple(senders)
        self._receiving: frozenset[str] = frozenset()
        self._newest: WeightSnapshot | None = None
        self._epoch: Epoch | None = None
        self._epoch_members: list[Participant] = []
        self._epoch_opened = False
        self._epochs = 0
        self._retries = Retries()
        self._abandoned = Abandoned()
        self._absences = Seldom(log)
        self._sent = threading.Condition()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._thread.start()

    # ---------------------------------------------------------------- for the learner

    def publish(self, version: int, tensors: Tensors) -> None:
        """Offer a snapshot; returns at once. The tensors must not change afterwards.

        Raises:
            RunError: where the sending thread has died, or a broadcast does not end.
        """
        self._check()
        with self._sent:
            self._newest = WeightSnapshot(version, tensors)

    def wait(self, version: int, deadline_seconds: float) -> bool:
        """Wait until at least one generator holds `version` and none that is alive holds less.

        Raises:
            RunError: where the sending thread has died, or a broadcast does not end.
        """
        self._check()
        with self._sent:
            return self._sent.wait_for(lambda: self._everyone_has(version), deadline_seconds)

    def _everyone_has(self, version: int) -> bool:
        members = self._receivers()
        return bool(members) and all(member.has(version) for member in members)

    def _check(self) -> None:
        if not self._thread.is_alive():
            raise RunError("the thread that sends weights has died; see logs/learner.log")
        self._abandoned.check()

    @property
    def registered(self) -> frozenset[str]:
        """Names of the generators and senders that have registered, and were not evicted since."""
        return frozenset(self._participants.registered)

    def close(self) -> None:
        self._stopping.set()
        self._thread.join(CLOSE_SECONDS)
        self._abort_epoch()
        self._participants.close()

    # ---------------------------------------------------------------- the thread

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._participants.take_messages(IDLE_SECONDS)
                members = self._receivers()
                self._note_changes(frozenset(member.name for member in members))
                newest = self._newest
                self._abandoned.forget_ended()
                behind = [member.name for member in members if newest and not member.has(newest.version)]
                chosen = self._retries.choose(behind, time.monotonic())
                if newest and chosen and (senders := self._others_that_send()) is not None:
                    self._sync(newest, [member for member in members if member.name in chosen], senders)
        except Exception:
            log.exception("the thread that sends weights ends")
            raise

    def _receivers(self) -> list[Participant]:
        """The registered generators that are alive."""
        return [one for one in self._participants.living() if one.receives]

    def _others_that_send(self) -> list[Participant] | None:
        """In the order of their stripes; None where one is away, or has failed just now."""
        if not self._senders:
            return []
        there = {one.name: one for one in self._participants.living() if not one.receives}
        if absent := [name for name in self._senders if name not in there]:
            self._absences.warning("weights: nobody gets any before %s is there, which sends some", ", ".join(absent))
            return None
        due = self._retries.all_due(self._senders, time.monotonic())
        return [there[name] for name in self._senders] if due else None

    def _note_changes(self, names: frozenset[str]) -> None:
        for name in sorted((self._receiving - names) & self.registered):
            log.warning("weights: %s is off the list of members; it is skipped until it is back", name)
        if names != self._receiving:
            self._receiving = names
            with self._sent:
                self._sent.notify_all()

    def _sync(self, snapshot: WeightSnapshot, behind: list[Participant], senders: list[Participant]) -> None:
        """One update. A full epoch where everyone is behind, one of the newcomers alone where they are."""
        start = time.monotonic()
        members = sorted(behind, key=lambda member: member.name)
        try:
            measured = self._carry_out(self._epoch_of(members, senders), snapshot)
        except SupersededError as error:
            log.debug("weights: %s", error)  # the learner is about to publish it
            return
        except Exception as error:  # noqa: BLE001 - whatever broke, the epoch is over and training goes on without it
            self._epoch_broke(error)
            return
        self._retries.succeeded(member.name for member in (*members, *senders))
        with self._sent:
            for member in members:
                member.version = snapshot.version
            self._sent.notify_all()
        self._report(snapshot.version, len(members), measured, time.monotonic() - start)

    def _carry_out(self, epoch: Epoch, snapshot: WeightSnapshot) -> Measured:
        """The update runs in a thread of its own, since nothing can interrupt a broadcast that waits for a dead rank;
        this one looks on, and leaves it behind where it can no longer succeed.
        """
        members, opened = self._epoch_members, self._epoch_opened

        def work() -> Measured:
            if not opened:
                epoch.open(self._connect)
            return epoch.update(snapshot.version, snapshot.tensors)

        update = in_background(work, "weight-update")
        try:
            while not wait([update], WATCH_SECONDS).done:
                if epoch.failure is not None:
                    raise epoch.failure
                living = self._participants.living()
                if lost := {member.name for member in members if member not in living}:
                    raise MembersLostError(lost, "no longer there in the middle of an update")
                if self._stopping.is_set():
                    raise MembersLostError(set(), "the learner ends")
            self._epoch_opened = True
            return update.result()
        finally:
            if not update.done():
                to = ", ".join(member.name for member in members if member.receives)
                self._abandoned.add(update, to, 2 * self._config.deadline_seconds)

    def _report(self, version: int, members: int, measured: Measured, total: float) -> None:
        metrics.SYNC_TRANSFER.observe(measured.transfer_seconds)
        metrics.SYNC_TOTAL.observe(total)
        metrics.SYNC_BYTES.inc(measured.bytes)
        self._on_sync(
            WeightSync(
                version=version,
                members=members,
                bytes=measured.bytes,
                transfer_seconds=measured.transfer_seconds,
                pause_seconds=measured.pause_seconds,
                total_seconds=total,
            )
        )

    def _epoch_of(self, receivers: list[Participant], senders: list[Participant]) -> Epoch:
        """The epoch of exactly these members; the one before is given up where it had others."""
        members = [*receivers, *senders]
        if self._epoch is not None and self._epoch_members == members:
            return self._epoch
        self._abort_epoch()
        self._epochs += 1
        metrics.WEIGHT_EPOCH.set(self._epochs)
        workers = {member.name: member.workers for member in receivers}
        self._epoch = Epoch(self._epochs, workers, self._participants.call, self._merging, self._senders)
        self._epoch_members = members
        return self._epoch

    def _abort_epoch(self) -> None:
        epoch, self._epoch, self._epoch_members, self._epoch_opened = self._epoch, None, [], False
        if epoch is not None:
            epoch.abort()

    def _epoch_broke(self, error: Exception) -> None:
        """Evict whoever did not answer, and tell the others to give the update up; where the broadcast itself broke,
        everyone joins anew."""
        members, number = self._epoch_members, self._epochs
        everybody = {member.name for member in members if member.receives}
        lost = error.names if isinstance(error, MembersLostError) else everybody
        log.warning("weights: %s; a new epoch starts without %s", error, ", ".join(sorted(lost)) or "nobody")
        metrics.SYNC_FAILURES.inc(len(lost))
        self._retries.failed(lost, time.monotonic())
        self._abort_epoch()
        for member in members:
            if member.name in lost:
                self._participants.evict(member)
            else:
                self._participants.send(member, Message("abort", 0, {"epoch": number}))
