"""The connection of one synthetic generator: one socket for all its requests, and the faults that can befall it.

Faults are played at the seam between generator and socket: a link that is cut loses what is sent either way, and a
generator that is suspended stands still before its next send or receive, as after SIGSTOP. Whoever was killed leaves
without a word. What happens to sockets of real processes is tried with real processes, see `fleet.starter`.
"""

import asyncio
import itertools
import time
import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from actors.errors import PeerTimeoutError, ProtocolError
from actors.replay.clients import LEASES, SLOW_SECONDS
from actors.replay.shards import BRIEF, joined, parts_of
from actors.transport.client import LOST_SECONDS, MAX_REPLY_BYTES, Numbers
from actors.transport.codec import Array, Message, decode, encode
from actors.transport.lifeline import REPLY_SECONDS, Lifeline, ShardLine
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
        lifeline: which knows where the replay, or one shard of it, is.
        worker: unique name of the sender.
        link: what becomes of its messages.
    """

    def __init__(self, lifeline: ShardLine, worker: str, link: Link) -> None:
        self._lifeline, self._link = lifeline, link
        self._sender = {"worker": worker, "role": "generator"}
        self._numbers = Numbers()
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
        once: bool = False,
    ) -> Message:
        """Send one request, again and again until there is a reply; see `actors.transport.client.Client`.

        Raises:
            PeerTimeoutError: where none comes.
            ProtocolError: where the replay refuses the request.
        """
        body = {**(body or {}), **({"wait_seconds": wait_seconds} if wait_seconds else {})}
        due = wait_seconds + (self._lifeline.patience_seconds if deadline_seconds is None else deadline_seconds)
        end = time.monotonic() + due
        with self._numbers.of(kind, goes_on=kind in LEASES) as number:
            request = Message(kind, number, body, arrays or {})
            while True:
                left = end - time.monotonic()
                try:
                    reply = await self._once(request, max(0.0, min(wait_seconds + REPLY_SECONDS, left)))
                    break
                except TimeoutError as error:
                    if once or time.monotonic() >= end:
                        what = f"the replay at {self._address} did not answer {kind} within {due:g} s"
                        raise PeerTimeoutError(what) from error
        if reply.kind == "error":
            raise ProtocolError(f"the replay refused {kind}: {reply.body.get('message')}")
        return reply

    async def _once(self, request: Message, seconds: float) -> Message:
        number, answer = request.id, asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            await self._send(request)
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
        with self._numbers.of(kind) as number:
            await self._send(Message(kind, number, body))

    async def _send(self, request: Message) -> None:
        await self._link.running()
        if self._link.up:
            told = {**request.body, **self._sender, **self._numbers.told()}
            await self._socket.send(encode(replace(request, body=told)))

    async def _read(self, socket: AsyncDealerSocket) -> None:
        while True:
            frames = await socket.receive()
            await self._link.running()
            if not self._link.up:
                continue
            self._lifeline.answered()
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
        self._lifeline.unanswered()
        self.close()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(TimeoutError())
        self._open()

    def close(self) -> None:
        self._reading.cancel()
        self._watching.cancel()
        self._socket.close(0.0)


class ShardedLink:
    """Requests to all shards of the replay, as `actors.replay.clients` sends them; there may be one alone.

    Args:
        lifeline: which knows where the shards are.
        worker: unique name of the sender.
        link: what becomes of its messages.
    """

    def __init__(self, lifeline: Lifeline, worker: str, link: Link) -> None:
        self._shards = lifeline.shards
        self._clients = [MultiplexedClient(shard, worker, link) for shard in self._shards]
        self._turns = itertools.count(zlib.crc32(worker.encode()))
        #: What a shard is asked, by kind and shard, that it has not answered yet.
        self._late: dict[tuple[str, int], asyncio.Task[Message]] = {}

    async def request(
        self,
        kind: str,
        body: Mapping[str, Any] | None = None,
        arrays: Mapping[str, Array] | None = None,
        wait_seconds: float = 0.0,
        deadline_seconds: float | None = None,
    ) -> Message:
        """See `MultiplexedClient.request`."""
        body, options = body or {}, (arrays, wait_seconds, deadline_seconds)
        if len(self._clients) == 1:
            return await self._clients[0].request(kind, body, *options)
        parts = parts_of(kind, body, len(self._clients))
        if kind in BRIEF:
            parts = {shard: part for shard, part in parts.items() if not self._shards[shard].away}
            if not parts:
                raise PeerTimeoutError(f"the replay is away, and could not {kind}")
        asked = (self._clients[s].request(kind, part, *options, once=kind in BRIEF) for s, part in parts.items())
        answers = dict(zip(parts, await asyncio.gather(*asked, return_exceptions=True), strict=True))
        replies = {shard: answer for shard, answer in answers.items() if isinstance(answer, Message)}
        for error in answers.values():
            if isinstance(error, BaseException) and not (replies and isinstance(error, PeerTimeoutError)):
                raise error
        return joined(kind, body, replies, len(self._clients))

    async def any(self, kind: str, body: Mapping[str, Any], wait_seconds: float, deadline_seconds: float) -> Message:
        """What any shard may have: the answer of the first that has some, each in its turn. One that does not answer in
        a moment is asked in the background, as `actors.replay.clients` does it."""
        if len(self._clients) == 1:
            return await self._clients[0].request(kind, body, None, wait_seconds, deadline_seconds)
        order = self._in_turn()
        reply = Message("reply", 0)
        for shard in (*(shard for what, shard in list(self._late) if what == kind), *order):
            reply = await self._any_of(shard, kind, body, 0.0, deadline_seconds) or reply
            if reply.body:
                return reply
        first = next((shard for shard in order if (kind, shard) not in self._late), None)
        if first is None or not wait_seconds:
            if first is None:
                late = [self._late[kind, shard] for shard in order]
                await asyncio.wait(late, timeout=wait_seconds, return_when=asyncio.FIRST_COMPLETED)
            return reply
        return await self._any_of(first, kind, body, wait_seconds / len(self._clients), deadline_seconds) or reply

    async def _any_of(
        self, shard: int, kind: str, body: Mapping[str, Any], wait_seconds: float, deadline_seconds: float
    ) -> Message | None:
        """The answer of one shard; None where there is none, or not yet."""
        late = self._late.get((kind, shard))
        if late is None:
            request = self._clients[shard].request(kind, body, None, wait_seconds, deadline_seconds, once=True)
            self._late[kind, shard] = asyncio.create_task(request)
        asked = self._late[kind, shard]
        await asyncio.wait([asked], timeout=0.0 if late else wait_seconds + SLOW_SECONDS)
        if not asked.done():
            return None
        del self._late[kind, shard]
        try:
            return asked.result()
        except PeerTimeoutError:
            return None

    def _in_turn(self) -> list[int]:
        turn, count = next(self._turns), len(self._clients)
        order = [(turn + i) % count for i in range(count)]
        return [shard for shard in order if not self._shards[shard].away] or order

    async def tell(self, kind: str, body: Mapping[str, Any]) -> None:
        """See `MultiplexedClient.tell`."""
        for client in self._clients:
            await client.tell(kind, body)

    def close(self) -> None:
        for asked in self._late.values():
            if asked.done():
                asked.exception()  # nobody wants to hear of it any more
            else:
                asked.cancel()
        for client in self._clients:
            client.close()
