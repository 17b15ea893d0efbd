"""A generator's end of weight synchronisation: does what the publisher asks, one call after the other."""

import asyncio
import logging
from typing import Any, Protocol

import msgpack
import zmq
import zmq.asyncio

log = logging.getLogger(__name__)

#: A quarter of the silence after which the publisher takes a generator for dead (s).
BEAT_SECONDS = 2.5


class Receiver(Protocol):
    """The part of an engine that takes weights."""

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
    """Says hello to the publisher at `address` and serves its calls until it is cancelled."""

    def __init__(self, address: str, name: str, receiver: Receiver) -> None:
        self._address, self._name, self._receiver = address, name, receiver
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 500)

    async def run(self) -> None:
        self._socket.connect(self._address)
        try:
            await self._hello()
            beat = asyncio.create_task(self._beat())
            try:
                await self._serve()
            finally:
                beat.cancel()
                await self._say("bye")
        finally:
            self._socket.close()
            self._context.term()

    async def _say(self, what: str, **more: Any) -> None:
        await self._socket.send(msgpack.packb({"say": what, "name": self._name, **more}))

    async def _hello(self) -> None:
        await self._say("hello", workers=self._receiver.workers)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            await self._say("beat")

    async def _serve(self) -> None:
        while True:
            message = msgpack.unpackb(await self._socket.recv())
            if message["call"] == "rejoin":
                await self._hello()
                continue
            try:
                answer = await self._do(message["call"], message["argument"])
            except Exception as error:
                log.exception("weights: %s failed", message["call"])
                answer = {"error": f"{type(error).__name__}: {error}"}
            await self._say("answer", number=message["number"], **answer)

    async def _do(self, call: str, argument: dict[str, Any]) -> dict[str, Any]:
        match call:
            case "open":
                await self._receiver.open_group(argument)
            case "start":
                await self._receiver.start_update()
            case "update":
                await self._receiver.receive_update(argument)
            case "finish":
                return {"pause_seconds": await self._receiver.finish_update(int(argument["version"]))}
            case _:
                return {"error": f"unknown call {call!r}"}
        return {}
