"""The connection of one synthetic generator: one socket for all its requests, and the faults that can befall it.

Faults are played at the seam between generator and socket: a link that is cut loses what is sent either way, and a
generator that is suspended stands still before its next send or receive, as after SIGSTOP. Whoever was killed leaves
without a word. What happens to sockets of real processes is tried with real processes, see `fleet.starter`.
"""

import asyncio
import itertools
import time
from collections.abc import Mapping
from typing import Any

from actors.errors import PeerTimeoutError, ProtocolError
from actors.transport.client import LOST_SECONDS, MAX_REPLY_BYTES
from actors.transport.codec import Array, Message, decode, encode
from actors.transport.lifeline import REPLY_SECONDS, Lifeline
from actors.transport.sockets import AsyncDealerSocket


class Link:
    """Whether one generator runs, and whether it reaches anybody."""

    def __init__(self) -> None:
        self._running = asyncio.Event()
        self._running.set()
        self._up = True

    @property
    def up(self) -> bool:
        return self._up

    def cut(self, cut: bool) -> None:
        self._up = not cut

    def suspend(self, suspended: bool) -> None:
        if suspended:
            self._running.clear()
        else:
            self._running.set()

    async def running(self) -> None:
        """Return at once, or when a suspended generator continues."""
        await self._running.wait()


class MultiplexedClient:
    """Requests to the replay from one event loop, any number at a time over one socket.

    Args:
        lifeline: which knows where the replay is.
        worker: unique name of the sender.
        link: what becomes of its messages.
    """

    def __init__(self, lifeline: Lifeline, worker: str, link: Link) -> None:
        self._lifeline, self._link = lifeline, link
        self._sender = {"worker": worker, "role": "generator"}
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        self._open()

    def _open(self) -> None:
        self._address = self._lifeline.replay
        self._socket = AsyncDealerSocket(self._address, MAX_REPLY_BYTES)
        self._reading = asyncio.create_task(self._read(self._socket))
        self._watching = asyncio.create_task(self._watch(self._socket))

    async def request(
        self,
        kind: str,
        body: Mapping[str, Any] | None = None,
        arrays: Mapping[str, Array] | None = None,
        wait_seconds: float = 0.0,
        deadline_seconds: float | None = None,
    ) -> Message:
        """Send one request, again and again until there is a reply; see `actors.transport.client.Client.request`.

        Raises:
            PeerTimeoutError: where none comes.
            ProtocolError: where the replay refuses the request.
        """
        body = {**(body or {}), **({"wait_seconds": wait_seconds} if wait_seconds else {})}
        due = wait_seconds + (self._lifeline.patience_seconds if deadline_seconds is None else deadline_seconds)
        end = time.monotonic() + due
        while True:
            left = end - time.monotonic()
            try:
                reply = await self._once(kind, body, arrays or {}, max(0.0, min(wait_seconds + REPLY_SECONDS, left)))
                break
            except TimeoutError as error:
                if time.monotonic() >= end:
                    what = f"the replay at {self._address} did not answer {kind} within {due:g} s"
                    raise PeerTimeoutError(what) from error
        self._lifeline.answered()
        if reply.kind == "error":
            raise ProtocolError(f"the replay refused {kind}: {reply.body.get('message')}")
        return reply

    async def _once(self, kind: str, body: Mapping[str, Any], arrays: Mapping[str, Array], seconds: float) -> Message:
        number, answer = next(self._numbers), asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            await self._send(kind, number, body, arrays)
            async with asyncio.timeout(seconds):
                reply: Message = await answer
                return reply
        except TimeoutError:
            if not answer.done():  # else another request has connected again already
                self._reopen()
            raise
        finally:
            del self._waiting[number]

    async def tell(self, kind: str, body: Mapping[str, Any]) -> None:
        """Send what needs no answer, since it is soon repeated."""
        await self._send(kind, next(self._numbers), body, {})

    async def _send(self, kind: str, number: int, body: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        await self._link.running()
        if self._link.up:
            await self._socket.send(encode(Message(kind, number, {**body, **self._sender}, arrays)))

    async def _read(self, socket: AsyncDealerSocket) -> None:
        while True:
            frames = await socket.receive()
            await self._link.running()
            if not self._link.up:
                continue
            reply = decode(frames, MAX_REPLY_BYTES)
            answer = self._waiting.get(reply.id)
            if answer is not None and not answer.done():
                answer.set_result(reply)

    async def _watch(self, socket: AsyncDealerSocket) -> None:
        await socket.lost()
        await asyncio.sleep(LOST_SECONDS)
        self._reopen()

    def _reopen(self) -> None:
        """An unsent request must not pile up, to be answered when nobody waits for it; all that wait ask again."""
        self.close()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(TimeoutError())
        self._open()

    def close(self) -> None:
        self._reading.cancel()
        self._watching.cancel()
        self._socket.close(0.0)
