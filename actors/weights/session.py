"""One membership epoch's updates, each a transaction between the learner and the generators that receive it.

open ──▶ receive ──▶ commit ──▶ receive ──▶ commit ──▶ …
  └─────────┴──────────┴──▶ abort

open     learner and generators form a broadcast group
receive  they are told what comes, and receive it beside generation
commit   they swap it in and go on under the new version
abort    the group is given up, whatever it was doing; nothing of an update that was not committed is used

With several senders each has a stripe, and a broadcast group, of its own, with the same receivers. The first sender's
transport is the one that calls here; each call then goes to the other senders as well, and what they answer becomes
part of what the generators are told. All stripes are received at once, and committed together.

Each end aborts by itself: the sender where a member fails, falls off the list or misses a deadline, a receiver where it
is told to, is told of a newer epoch, or hears nothing.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch

from actors.errors import LeewayError
from actors.weights import messages as m
from actors.weights.background import in_background

T = TypeVar("T")
Tensors = Sequence[tuple[str, torch.Tensor]]
Body = Mapping[str, Any]


class MembersLostError(LeewayError):
    """Some generators did not take an update, or senders did not carry it; all of them are to register anew."""

    def __init__(self, names: set[str], why: str) -> None:
        super().__init__(f"{', '.join(sorted(names)) or 'a generator'} did not take part in the update: {why}")
        self.names = names


class BroadcastBrokenError(LeewayError):
    """The broadcast of a stripe broke at its sender; that does not say whose fault it was."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name} could not send its stripe of the weights: {why}")


class SupersededError(LeewayError):
    """A sender holds a newer version by now; nothing is wrong, and that one is to be sent."""


class SyncClient(Protocol):
    """What a transport asks of the generators; the same four calls as vLLM's `VLLMWeightSyncClient`."""

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None: ...

    def start_weight_update(self) -> None: ...

    def update_weights(self, update_info: Any) -> None: ...

    def finish_weight_update(self, weight_version: str | None = None) -> None: ...


class Transport(Protocol):
    """A broadcast group of one epoch, as its sender sees it."""

    def send(self, tensors: Tensors) -> int:
        """Broadcast all tensors and let the generators swap them in; returns the bytes, counted once."""
        ...

    def close(self) -> None: ...


class Caller(Protocol):
    """Carries a call to each member and brings all answers back.

    Raises:
        MembersLostError: where a member fails, falls off the list or misses its deadline, or `aborted` is set.
        BroadcastBrokenError: where a sender fails.
    """

    def __call__(self, kind: str, bodies: Mapping[str, Body], aborted: threading.Event) -> Mapping[str, m.Answer]: ...


@dataclass(frozen=True, slots=True)
class Measured:
    """What one update took; `pause_seconds` is the longest of any generator."""

    bytes: int
    transfer_seconds: float
    pause_seconds: float


class Epoch:
    """A `SyncClient` for its transport.

    Args:
        number: of the epoch, which goes with every call.
        workers: the generators by name, with the ranks that each has in a group.
        call: carries the calls to them.
        merging: fields of `learner.model.merging.Merging`, which go with every update.
        senders: names of the learner's other ranks that send, in the order of their stripes.

    Attributes:
        failure: what the first call that failed has raised. The transport may be in the middle of a broadcast then, and
            not come out of it: a rank that is missing is one that all others wait for.
    """

    def __init__(
        self,
        number: int,
        workers: Mapping[str, int],
        call: Caller,
        merging: Body | None = None,
        senders: Sequence[str] = (),
    ) -> None:
        self.number, self.workers, self._senders = number, dict(workers), tuple(senders)
        self.failure: Exception | None = None
        self._carry, self._merging = call, merging
        self._aborted = threading.Event()
        self._lock = threading.Lock()
        self._transport: Transport | None = None
        self._version = 0
        self._started = self._sent = 0.0
        self._pauses: list[float] = []
        self._stripes: list[m.TensorList] = []
        self._sent_by_others = 0

    def open(self, connect: Callable[[SyncClient, int], Transport]) -> None:
        """Form the group; `connect` gets this client and the number of ranks, the learner's included.

        Raises:
            MembersLostError: naming whoever did not come; or what else the transport raises.
        """
        transport = connect(self, 1 + sum(self.workers.values()))
        with self._lock:
            if not self._aborted.is_set():
                self._transport = transport
                return
        transport.close()
        raise MembersLostError(set(), "the epoch was given up")

    def update(self, version: int, tensors: Tensors) -> Measured:
        """Send one version from receive to commit. Whatever else is raised, the epoch can only be aborted afterwards.

        Raises:
            SupersededError: a sender has a newer version, and the epoch can go on with that.
            MembersLostError: naming whoever did not take it; or what else the transport raises.
        """
        transport = self._transport
        if transport is None:
            raise RuntimeError("the epoch is not open")
        self._version, self._pauses = version, []
        # First of all, since the first sender may take its time to read what it has.
        if any(answer.superseded for answer in self._ask_senders("start", {"version": version})):
            raise SupersededError(f"version {version} has a successor by now, which is sent instead")
        sent_bytes = transport.send(tensors)
        sent_bytes += self._sent_by_others
        return Measured(sent_bytes, self._sent - self._started, max(self._pauses, default=0.0))

    def abort(self) -> None:
        """Give the group up, from any thread; calls that still wait for answers end, and no other is carried out."""
        self._aborted.set()
        with self._lock:
            transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()

    def _call(self, kind: str, bodies: Mapping[str, Body]) -> Mapping[str, m.Answer]:
        try:
            if self._aborted.is_set():
                raise MembersLostError(set(), f"{kind}: the epoch was given up")
            numbered = {name: {**body, "epoch": self.number} for name, body in bodies.items()}
            return self._carry(kind, numbered, self._aborted)
        except Exception as error:
            self.failure = self.failure or error
            raise

    def _ask_senders(self, kind: str, body: Body) -> list[m.Answer]:
        """In the order of the stripes; nobody where the first sender is the only one."""
        answers = self._call(kind, dict.fromkeys(self._senders, body)) if self._senders else {}
        return [answers[name] for name in self._senders]

    # ---------------------------------------------------------------- what the transport calls (SyncClient)

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        opened = self._ask_senders("open", {"world_size": init_info.get("world_size")})
        meeting = {"meet_at": [answer.meets_at for answer in opened]} if opened else {}
        offset = int(init_info["rank_offset"])
        bodies = {}
        for name, workers in self.workers.items():
            bodies[name] = init_info | meeting | {"rank_offset": offset}
            offset += workers
        self._call("open", bodies)

    def start_weight_update(self) -> None:
        described = self._ask_senders("describe", {})
        self._stripes = [answer.stripe for answer in described if answer.stripe is not None]
        self._call("start", {name: {} for name in self.workers})

    def update_weights(self, update_info: Any) -> None:
        self._started = time.monotonic()
        body = dict(update_info) if self._merging is None else update_info | {"merging": self._merging}
        if self._stripes:
            body["stripes"] = [len(body["names"]), *(len(stripe.names) for stripe in self._stripes)]
            for field in m.TensorList.model_fields:
                body[field] = [*body[field], *(one for stripe in self._stripes for one in getattr(stripe, field))]
        self._call("update", dict.fromkeys(self.workers, body))
        self._ask_senders("update", {"delta": update_info.get("delta", False)})

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """Commit; vLLM's transports leave the version to the client."""
        self._sent_by_others = sum(answer.sent_bytes for answer in self._ask_senders("finish", {}))
        self._sent = time.monotonic()
        body = {"version": self._version if weight_version is None else int(weight_version)}
        answers = self._call("finish", dict.fromkeys(self.workers, body))
        self._pauses = [answer.pause_seconds for answer in answers.values()]


def together(background: Callable[[], None], here: Callable[[], T]) -> T:
    """Run both at once; whichever fails first is raised without waiting for the other, which ends by its deadline."""
    found = in_background(here, "rendezvous")
    both: list[Future[Any]] = [in_background(background, "rendezvous-call"), found]
    for done in wait(both, return_when=FIRST_EXCEPTION).done:
        done.result()
    return found.result()
