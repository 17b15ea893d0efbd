"""The learner's end of weight synchronisation: who receives, and a thread that sends the newest version.

Generators say hello on a ROUTER socket. Whoever is there forms a *membership epoch* with a broadcast group of its own;
a generator that comes, goes or misses a deadline starts a new epoch, and nobody else notices.
"""

import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import msgpack
import torch
import zmq

from actors.config.roles import WeightsConfig
from actors.errors import LeewayError, RunError
from actors.events import WeightSync
from actors.observability import metrics
from actors.transport.address import Node, endpoint
from actors.weights.transport import TRANSPORTS, Tensors, Transport
from learner.model.merging import Merging

log = logging.getLogger(__name__)

#: A member that has not been heard of for this long is taken for dead (s); members beat four times as often.
SILENCE_SECONDS = 10.0
#: The thread looks at its socket this often while there is nothing to send (s).
IDLE_SECONDS = 0.02


class MembersLostError(LeewayError):
    """Some generators did not take an update; they are left out until they say hello again."""

    def __init__(self, names: set[str], why: str) -> None:
        super().__init__(f"{', '.join(sorted(names)) or 'a generator'} did not take the weights: {why}")
        self.names = names


@dataclass(slots=True)
class Member:
    """A generator that receives weights."""

    identity: bytes
    name: str
    workers: int
    last_seen: float
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    version: int
    tensors: Tensors


@dataclass(slots=True)
class Round:
    """What one update measured, from the answers of the members."""

    started: float = 0.0
    sent: float = 0.0
    pauses: list[float] = field(default_factory=list)


class Publisher:
    """Sends snapshots to all generators, the newest first; older ones that were not sent yet are skipped.

    `dtype` is that of the wire. With `merging` the snapshots are adapters alone, and the generators merge them.
    """

    def __init__(
        self,
        config: WeightsConfig,
        node: Node,
        dtype: torch.dtype,
        on_sync: Callable[[WeightSync], None] = lambda _: None,
        merging: Merging | None = None,
    ) -> None:
        self._config, self._node, self._dtype, self._on_sync = config, node, dtype, on_sync
        self._more = {} if merging is None else {"merging": asdict(merging)}
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        port = self._socket.bind_to_random_port(f"tcp://{node.bind}")
        self.endpoint = endpoint(node.advertise, port)
        self._members: dict[str, Member] = {}
        self._answers: dict[int, queue.Queue[tuple[str, dict[str, Any]]]] = {}
        self._numbers = itertools.count(1)
        self._newest: Snapshot | None = None
        self._transport: Transport | None = None
        self._epoch: tuple[str, ...] = ()
        self._epochs = 0
        self._round = Round()
        self._announced = ""
        self._sent = threading.Condition()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._thread.start()

    # ---------------------------------------------------------------- for the learner

    def publish(self, version: int, tensors: Tensors) -> None:
        """Offer a snapshot; returns at once. The tensors must not change afterwards.

        Raises RunError where the sending thread has died.
        """
        if not self._thread.is_alive():
            raise RunError("the thread that sends weights has died; see logs/learner.log")
        with self._sent:
            self._newest = Snapshot(version, tensors)

    def wait(self, version: int, deadline_seconds: float) -> bool:
        """Wait until at least one generator holds `version` and none that is alive holds less."""
        with self._sent:
            return self._sent.wait_for(lambda: self._everyone_has(version), deadline_seconds)

    def _everyone_has(self, version: int) -> bool:
        held = [m.version for m in self._members.values()]
        return bool(held) and all(v is not None and v >= version for v in held)

    def close(self) -> None:
        self._stopping.set()
        self._thread.join(self._config.deadline_seconds + 5)
        self._drop_transport()
        self._socket.close()
        self._context.term()

    # ---------------------------------------------------------------- the thread

    def _run(self) -> None:
        try:
            self._serve()
        except Exception:
            log.exception("the thread that sends weights ends")
            raise

    def _serve(self) -> None:
        while not self._stopping.is_set():
            self._listen(IDLE_SECONDS)
            self._forget_silent()
            newest = self._newest
            behind = [m for m in self._members.values() if newest and m.version != newest.version]
            if newest and behind:
                self._sync(newest, behind)

    def _sync(self, snapshot: Snapshot, behind: list[Member]) -> None:
        """One update. A full epoch where everyone is behind, one of the newcomers alone where they are."""
        start = time.monotonic()
        members = sorted(behind, key=lambda m: m.name)
        try:
            self._form_epoch(members)
            assert self._transport is not None
            self._round = Round()
            self._announced = str(snapshot.version)
            sent_bytes = self._transport.send(snapshot.tensors)
        except Exception as error:  # noqa: BLE001 - whatever broke, the epoch is over and training goes on without it
            self._epoch_broke(error)
            return
        with self._sent:
            for member in members:
                member.version = snapshot.version
            self._sent.notify_all()
        self._report(snapshot.version, len(members), sent_bytes, time.monotonic() - start)

    def _report(self, version: int, members: int, sent_bytes: int, total: float) -> None:
        pause = max(self._round.pauses, default=0.0)
        transfer = self._round.sent - self._round.started
        metrics.SYNC_TRANSFER.observe(transfer)
        metrics.SYNC_TOTAL.observe(total)
        metrics.SYNC_BYTES.inc(sent_bytes)
        self._on_sync(
            WeightSync(
                version=version,
                members=members,
                bytes=sent_bytes,
                transfer_seconds=transfer,
                pause_seconds=pause,
                total_seconds=total,
            )
        )

    def _form_epoch(self, members: list[Member]) -> None:
        names = tuple(m.name for m in members)
        if self._transport is not None and names == self._epoch:
            return
        self._drop_transport()
        self._epoch = names
        self._epochs += 1
        metrics.WEIGHT_EPOCH.set(self._epochs)
        self._transport = TRANSPORTS[self._config.backend](
            client=self,
            node=self._node,
            world_size=1 + sum(m.workers for m in members),
            dtype=self._dtype,
            bucket_bytes=self._config.bucket_bytes,
            deadline_seconds=self._config.deadline_seconds,
        )

    def _drop_transport(self) -> None:
        transport, self._transport, self._epoch = self._transport, None, ()
        if transport is not None:
            transport.close()

    def _epoch_broke(self, error: Exception) -> None:
        """Leave out whoever did not answer; where the broadcast itself broke, everyone joins anew."""
        lost = error.names if isinstance(error, MembersLostError) else set(self._epoch)
        log.warning("weights: %s; a new epoch starts without %s", error, ", ".join(sorted(lost)) or "nobody")
        metrics.SYNC_FAILURES.inc(len(lost))
        for name in lost:
            member = self._members.pop(name, None)
            if member is not None:
                self._send(member, {"call": "rejoin", "number": 0})
        self._drop_transport()

    # ---------------------------------------------------------------- what the transport calls (SyncClient)

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        offset = int(init_info["rank_offset"])
        infos = {}
        for name in self._epoch:
            infos[name] = init_info | {"rank_offset": offset}
            offset += self._members[name].workers
        self._call("open", infos)

    def start_weight_update(self) -> None:
        self._call("start", {name: {} for name in self._epoch})

    def update_weights(self, update_info: Any) -> None:
        self._round.started = time.monotonic()
        self._call("update", dict.fromkeys(self._epoch, update_info | self._more))

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        self._round.sent = time.monotonic()
        version = weight_version or self._announced
        answers = self._call("finish", {name: {"version": version} for name in self._epoch})
        self._round.pauses = [float(answer["pause_seconds"]) for answer in answers.values()]

    def _call(self, call: str, arguments: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Ask every member of the epoch and wait for all answers. Raises MembersLostError naming who did not."""
        number = next(self._numbers)
        waiting = self._answers[number] = queue.Queue()
        try:
            for name, argument in arguments.items():
                self._send(self._members[name], {"call": call, "number": number, "argument": argument})
            return self._gather(call, set(arguments), waiting)
        finally:
            del self._answers[number]

    def _gather(
        self, call: str, names: set[str], waiting: "queue.Queue[tuple[str, dict[str, Any]]]"
    ) -> dict[str, dict[str, Any]]:
        deadline = time.monotonic() + self._config.deadline_seconds
        answers: dict[str, dict[str, Any]] = {}
        while len(answers) < len(names):
            self._listen(IDLE_SECONDS)
            while not waiting.empty():
                name, answer = waiting.get_nowait()
                if "error" in answer:
                    raise MembersLostError({name}, f"{call}: {answer['error']}")
                answers[name] = answer
            missing = names - set(answers)
            now = time.monotonic()
            silent = {n for n in missing if n not in self._members or self._silent(self._members[n], now)}
            if silent or (missing and now > deadline):
                raise MembersLostError(silent or missing, f"no answer to {call}")
        return answers

    # ---------------------------------------------------------------- the socket

    def _send(self, member: Member, message: dict[str, Any]) -> None:
        self._socket.send_multipart([member.identity, msgpack.packb(message)])

    def _listen(self, seconds: float) -> None:
        """Take in whatever the members say, waiting `seconds` for the first word."""
        timeout = int(seconds * 1000)
        while self._socket.poll(timeout):
            timeout = 0
            identity, *frames = self._socket.recv_multipart()
            try:
                self._hear(identity, msgpack.unpackb(b"".join(frames)))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                log.warning("weights: a message out of form: %s", error)

    def _hear(self, identity: bytes, message: dict[str, Any]) -> None:
        name, now = str(message["name"]), time.monotonic()
        match message["say"]:
            case "hello":
                self._members[name] = Member(identity, name, int(message["workers"]), now)
                log.info("weights: %s joined", name)
            case "bye":
                self._members.pop(name, None)
            case "answer" if name in self._members and message["number"] in self._answers:
                self._members[name].last_seen = now
                self._answers[message["number"]].put((name, message))
            case "beat" if name in self._members:
                self._members[name].last_seen = now

    def _silent(self, member: Member, now: float) -> bool:
        return now - member.last_seen > SILENCE_SECONDS

    def _forget_silent(self) -> None:
        now = time.monotonic()
        for member in [m for m in self._members.values() if self._silent(m, now)]:
            log.warning("weights: %s has fallen silent", member.name)
            del self._members[member.name]
