"""A link that can be cut: a TCP relay in front of one server, for one process."""

import asyncio
import threading
from contextlib import suppress

from actors.concurrency import end
from actors.transport.address import endpoint, endpoints, joined, split

_CHUNK = 2**16
#: Longest start of the relay's listener, and longest end of its thread (s).
SECONDS = 10.0


class Relays:
    """A relay in front of each shard of the replay.

    Args:
        replay: its address.

    Attributes:
        address: of the replay, by way of the relays.
    """

    def __init__(self, replay: str) -> None:
        self._relays = [Relay(target) for target in endpoints(replay)]
        self.address = joined(relay.address for relay in self._relays)

    def retarget(self, replay: str) -> None:
        for relay, target in zip(self._relays, endpoints(replay), strict=True):
            relay.retarget(target)

    def cut(self, cut: bool) -> None:
        for relay in self._relays:
            relay.cut(cut)

    def close(self) -> None:
        for relay in self._relays:
            relay.close()


class Relay:
    """Forwards to `target`, from the constructor to `close`. While it is cut nothing gets through either way, and
    nobody is told: what was sent meanwhile arrives afterwards, as after a failure of the network that TCP outlasts.

    Attributes:
        address: what the process connects to instead.
    """

    def __init__(self, target: str) -> None:
        self._target = split(target)
        self._loop = asyncio.new_event_loop()
        self._open = asyncio.Event()
        self._open.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay", daemon=True)
        self._thread.start()
        listening = asyncio.run_coroutine_threadsafe(self._listen(), self._loop)
        self.address = listening.result(SECONDS)

    async def _listen(self) -> str:
        host = self._target[0]
        self._server = await asyncio.start_server(self._connected, host, 0)
        return endpoint(host, self._server.sockets[0].getsockname()[1])

    def retarget(self, target: str) -> None:
        """The server is elsewhere now: connections from here on go there."""
        self._target = split(target)

    def cut(self, cut: bool) -> None:
        with suppress(RuntimeError):  # its process has ended, and it with it
            self._loop.call_soon_threadsafe(self._open.clear if cut else self._open.set)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._open.wait()
        try:
            there, out = await asyncio.open_connection(*self._target)
        except OSError:
            writer.close()
            return
        for source, sink in ((reader, out), (there, writer)):
            task = asyncio.create_task(self._forward(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _forward(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(_CHUNK):
                await self._open.wait()
                sink.write(data)
                await sink.drain()
        with suppress(OSError):
            sink.close()

    def close(self) -> None:
        async def stop() -> None:
            self._server.close()
            await end(self._tasks)

        asyncio.run_coroutine_threadsafe(stop(), self._loop).result(SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(SECONDS)
        self._loop.close()
