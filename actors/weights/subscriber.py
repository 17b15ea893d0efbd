"""A generator's end of weight synchronisation: carries out what the publisher asks, and gives up what it cannot finish.

    closed ──open──▶ opened ──start──▶ started ──update──▶ receiving ──finish──▶ opened
       ▲                │                 │                    │
       └────────────────┴──── abort ──────┴────────────────────┘

An epoch is given up where the publisher says so, opens the next one or has evicted this generator, where a call fails,
and where nothing is heard in the middle of an update for its deadline. Afterwards the engine generates on under the
version that it had, whatever had been received. An engine that cannot do that ends the generator, by an EngineError.

A rank of the learner that sends a stripe carries out the same calls in the same states: see `stripe_sender`.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from actors.config.base import Section
from actors.errors import EngineError, PeerTimeoutError, ProtocolError
from actors.observability import metrics
from actors.process import Seldom
from actors.transport.codec import Message, decode, encode, parse
from actors.transport.sockets import AsyncDealerSocket
from actors.weights import messages as m

log = logging.getLogger(__name__)

#: The publisher is told again that this process is here (s): an eviction or a lost connection may go unnoticed.
REGISTER_SECONDS = 5.0
#: The states in which each call may come, and the one that it leads to.
STEPS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "open": (("closed",), "opened"),
    "start": (("opened",), "started"),
    "update": (("started",), "receiving"),
    "finish": (("receiving",), "opened"),
}


class Transfer(Protocol):
    """The part of an update that has no answer of its own; both ends of it have one."""

    async def received(self) -> None:
        """Wait until everything is here; raises what broke the broadcast, which has a deadline of its own."""
        ...

    async def abort_update(self) -> None:
        """Give up the group and the update that is open, if one is, and go on.

        Raises:
            EngineError: the engine holds two versions.
        """
        ...


class Receiver(Transfer, Protocol):
    """The part of an engine that takes weights; `workers` is the number of its ranks in a broadcast group, `version`
    the policy version that it holds, None before the first.

    Any of its calls may be cancelled; `abort_update` then brings it back to where it was.
    """

    workers: int

    @property
    def version(self) -> int | None: ...

    async def open_group(self, info: dict[str, Any]) -> None:
        """Join the broadcast group of a new epoch."""
        ...

    async def start_update(self) -> None: ...

    async def receive_update(self, info: dict[str, Any]) -> None:
        """Begin to receive."""
        ...

    async def finish_update(self, version: int) -> float:
        """Swap in what was received; returns for how long generation was paused (s).

        Raises:
            EngineError: some of it was swapped in, and some was not.
        """
        ...


class Subscription:
    """Registers with the publisher and carries out its calls, one after the other, until it is cancelled: what is the
    same at both ends of a broadcast.

    Args:
        endpoint: of the publisher.
        name: of this process.
        transfer: what an update is given up by.
        deadline_seconds: longest silence in the middle of an update, and longest time that giving up may take (s).
    """

    #: The calls that it understands; their steps, as `STEPS` has them; and the states in which it waits for nobody.
    calls: ClassVar[Mapping[str, type[Section]]]
    steps: ClassVar = STEPS
    at_rest: ClassVar = frozenset({"closed", "opened"})

    def __init__(self, endpoint: str, name: str, transfer: Transfer, deadline_seconds: float) -> None:
        self._endpoint, self._name, self._update = endpoint, name, transfer
        self._deadline = deadline_seconds
        self._epoch, self._state = 0, "closed"
        self._call: asyncio.Task[bool] | None = None
        self._transfer: asyncio.Task[None] | None = None
        self._heard, self._registered = 0.0, float("-inf")
        self._rejections = Seldom(log)

    def _registration(self) -> tuple[str, dict[str, Any]]:
        """The kind of message that registers this process, and what it says."""
        raise NotImplementedError

    async def _answer(self, call: m.EpochMessage) -> dict[str, Any]:
        """Carry a call out; returns the fields of its `Answer`."""
        raise NotImplementedError

    async def run(self) -> None:
        """Raises EngineError where the engine is to be replaced."""
        self._socket = AsyncDealerSocket(self._endpoint, m.MAX_BYTES)
        coming: asyncio.Future[list[bytes]] | None = None
        try:
            while True:
                if time.monotonic() - self._registered > REGISTER_SECONDS:
                    await self._register()
                coming = coming or asyncio.ensure_future(self._socket.receive())
                await self._something(coming)
                if self._call is not None and self._call.done():
                    await self._call_ended(self._call)
                elif coming.done():
                    frames, coming = coming.result(), None
                    self._heard = time.monotonic()
                    await self._handle(frames)
                elif self._silent():
                    await self._abort(f"nothing was heard of the learner for {self._deadline:g} s")
        finally:
            if coming is not None:
                coming.cancel()
            await self._leave()

    async def _something(self, coming: "asyncio.Future[list[bytes]]") -> None:
        """Wait for a message, the end of a call, or the time to look at the clock."""
        waiting: set[asyncio.Future[Any]] = {coming}
        if self._call is not None:
            waiting.add(self._call)
        await asyncio.wait(waiting, timeout=min(1.0, self._deadline / 4), return_when=asyncio.FIRST_COMPLETED)

    def _silent(self) -> bool:
        """Whether an update, or the call that opens a group, waits for a learner that says nothing."""
        if self._state in self.at_rest and self._call is None:
            return False
        if self._transfer is not None and not self._transfer.done():
            return False  # the broadcast has a deadline of its own
        return time.monotonic() - self._heard > self._deadline

    async def _leave(self) -> None:
        try:
            await self._abort("this process leaves")
        finally:
            await self._send("deregister", 0, {})
            self._socket.close()

    # ---------------------------------------------------------------- messages

    async def _register(self) -> None:
        self._registered = time.monotonic()
        try:
            kind, body = self._registration()
            await self._send(kind, 0, body)
        except PeerTimeoutError as error:
            log.info("weights: %s", error)  # a learner that is gone; the next has another address

    async def _send(self, kind: str, number: int, body: Mapping[str, Any]) -> None:
        await self._socket.send(encode(Message(kind, number, {"name": self._name, **body})))

    async def _handle(self, frames: list[bytes]) -> None:
        """A malformed message is answered where it can be told what it answers, and ends nothing."""
        number = 0
        try:
            message = decode(frames, m.MAX_BYTES)
            number = message.id
            body = parse(message, self.calls)
        except ProtocolError as error:
            metrics.WEIGHT_MALFORMED.inc()
            self._rejections.warning("weights: refused a message: %s", error)
            if number:
                await self._send("answer", number, {"error": str(error)})
            return
        match body:
            case m.Rejoin():
                await self._abort("the learner has evicted this process")
                await self._register()
            case m.Abort():
                if body.epoch == self._epoch:
                    await self._abort("the learner has given the update up")
            case m.Error():
                log.warning("weights: the learner refused a message: %s", body.message)
            case m.EpochMessage():
                await self._begin(message.kind, number, body)

    async def _begin(self, kind: str, number: int, body: m.EpochMessage) -> None:
        if kind == "open":
            await self._abort("the learner has begun another epoch")
            self._epoch = body.epoch
        if self._call is not None or self._state not in self.steps[kind][0] or self._epoch != body.epoch:
            at = f"epoch {self._epoch} is {self._state} here" if self._epoch else "none is open here"
            await self._send("answer", number, {"error": f"{kind} of epoch {body.epoch}, but {at}"})
        else:
            self._call = asyncio.create_task(self._carry_out(kind, number, body))

    # ---------------------------------------------------------------- calls

    async def _carry_out(self, kind: str, number: int, body: m.EpochMessage) -> bool:
        """One call and its answer; whether it succeeded."""
        try:
            answer = await self._answer(body)
        except Exception as error:
            log.exception("weights: %s failed", kind)
            await self._send("answer", number, {"error": f"{type(error).__name__}: {error}"})
            if isinstance(error, EngineError):
                raise
            return False
        _, self._state = self.steps[kind]
        await self._send("answer", number, answer)
        return True

    def _begin_transfer(self) -> None:
        self._transfer = asyncio.create_task(self._receive())

    async def _transferred(self) -> None:
        assert self._transfer is not None, "the state is 'receiving' only with a transfer"
        await self._transfer

    async def _receive(self) -> None:
        try:
            await self._update.received()
        finally:
            self._heard = time.monotonic()

    async def _call_ended(self, call: asyncio.Task[bool]) -> None:
        self._call = None
        try:
            succeeded = call.result()
        except EngineError:
            self._epoch, self._state = 0, "closed"  # there is nothing to be given up any more
            raise
        if not succeeded:
            await self._abort("a call has failed")

    async def _abort(self, why: str) -> None:
        """Give up whatever is open. Raises EngineError where the engine cannot."""
        if not self._epoch:
            return
        if self._call is not None or self._state != "opened":
            log.warning("weights: the update is given up: %s", why)
        try:
            await self._give_up()
        except EngineError:
            self._epoch, self._state = 0, "closed"
            raise
        self._epoch, self._state = 0, "closed"

    async def _give_up(self) -> None:
        ending = [task for task in (self._call, self._transfer) if task is not None]
        self._call = self._transfer = None
        for task in ending:
            task.cancel()
        try:
            async with asyncio.timeout(self._deadline):
                for outcome in await asyncio.gather(*ending, return_exceptions=True):
                    if isinstance(outcome, EngineError):
                        raise outcome
                await self._update.abort_update()
        except EngineError:
            raise
        except TimeoutError as error:
            raise EngineError(f"the engine did not give an update up within {self._deadline:g} s") from error
        except Exception as error:
            raise EngineError(f"the engine could not give an update up: {error}") from error


class Subscriber(Subscription):
    """The subscription of a generator, whose engine `receiver` is; the rest as `Subscription` has it."""

    calls = m.TO_GENERATOR

    def __init__(self, endpoint: str, name: str, receiver: Receiver, deadline_seconds: float) -> None:
        super().__init__(endpoint, name, receiver, deadline_seconds)
        self._receiver = receiver

    def _registration(self) -> tuple[str, dict[str, Any]]:
        return "register", {"workers": self._receiver.workers, "version": self._receiver.version}

    async def _answer(self, call: m.EpochMessage) -> dict[str, Any]:
        pause = 0.0
        match call:
            case m.Open():
                await self._receiver.open_group(call.model_dump(exclude={"epoch"}, exclude_none=True))
            case m.Start():
                await self._receiver.start_update()
            case m.Update():
                await self._receiver.receive_update(call.model_dump(exclude={"epoch"}, exclude_none=True))
                self._begin_transfer()
            case m.Finish():
                await self._transferred()
                pause = await self._receiver.finish_update(call.version)
        return {"pause_seconds": pause}
