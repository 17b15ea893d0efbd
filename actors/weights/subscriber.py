"""A generator's end of weight synchronisation: carries out what the publisher asks, one call after the other."""

import logging
from collections.abc import Mapping
from typing import Any, Protocol

from actors.errors import ProtocolError
from actors.observability import metrics
from actors.transport.codec import Message, decode, encode, parse
from actors.transport.sockets import AsyncDealerSocket
from actors.weights import messages as m

log = logging.getLogger(__name__)


class Receiver(Protocol):
    """The part of an engine that takes weights; `workers` is the number of its ranks in a broadcast group."""

    workers: int

    async def open_group(self, info: dict[str, Any]) -> None:
        """Join the broadcast group of a new epoch."""
        ...

    async def start_update(self) -> None: ...

    async def receive_update(self, info: dict[str, Any]) -> None: ...

    async def finish_update(self, version: int) -> float:
        """Swap the weights in; returns for how long generation was paused (s)."""
        ...


class Subscriber:
    """Registers with the publisher at `endpoint` and carries out its calls until it is cancelled."""

    def __init__(self, endpoint: str, name: str, receiver: Receiver) -> None:
        self._endpoint, self._name, self._receiver = endpoint, name, receiver

    async def run(self) -> None:
        self._socket = AsyncDealerSocket(self._endpoint, m.MAX_BYTES)
        try:
            await self._register()
            while True:
                await self._handle(await self._socket.receive())
        finally:
            await self._send("deregister", 0, {})
            self._socket.close()

    async def _register(self) -> None:
        await self._send("register", 0, {"workers": self._receiver.workers})

    async def _send(self, kind: str, number: int, body: Mapping[str, Any]) -> None:
        await self._socket.send(encode(Message(kind, number, {"name": self._name, **body})))

    async def _handle(self, frames: list[bytes]) -> None:
        """A malformed message is answered where it can be told what it answers, and ends nothing."""
        number = 0
        try:
            message = decode(frames, m.MAX_BYTES)
            number = message.id
            body = parse(message, m.TO_GENERATOR)
        except ProtocolError as error:
            metrics.WEIGHT_MALFORMED.inc()
            log.warning("weights: refused a message: %s", error)
            if number:
                await self._send("answer", number, {"error": str(error)})
            return
        match body:
            case m.Rejoin():
                await self._register()
            case m.Error():
                log.warning("weights: the learner refused a message: %s", body.message)
            case _:
                await self._send("answer", number, await self._answer(message.kind, body))

    async def _answer(self, kind: str, call: object) -> dict[str, Any]:
        try:
            match call:
                case m.Open():
                    await self._receiver.open_group(call.model_dump())
                case m.Start():
                    await self._receiver.start_update()
                case m.Update():
                    await self._receiver.receive_update(call.model_dump(exclude_none=True))
                case m.Finish():
                    return {"pause_seconds": await self._receiver.finish_update(call.version)}
        except Exception as error:
            log.exception("weights: %s failed", kind)
            return {"error": f"{type(error).__name__}: {error}"}
        return {}
