"""Whoever watches the page of a run hears what has changed of it: server-sent events, for so many at a time."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping

from fastapi import Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import PlainTextResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

#: How old what a page shows may be (s).
REFRESH_SECONDS = 2.0
#: How soon a stream sees that it is to end (s).
NOTICE_SECONDS = 0.2
#: Pages that can be open at a time: each costs the controller a few kilobytes a refresh.
MOST_VIEWERS = 32
#: What a browser waits before it asks again (ms).
RETRY_MS = 2000


class Stream:
    """The parts of a page, to each viewer all of them first, then those that have changed.

    Args:
        parts: what there is to see, by name; asked twice a refresh at most, however many watch.
        clock: seconds of a monotonic clock.
    """

    def __init__(self, parts: Callable[[], dict[str, str]], clock: Callable[[], float] = time.monotonic) -> None:
        self._parts, self._clock = parts, clock
        self._lock = threading.Lock()
        self._latest: dict[str, str] = {}
        self._taken: float | None = None
        self._closed = False
        self.viewers = 0

    def latest(self) -> dict[str, str]:
        """The parts, no older than a refresh; from any thread."""
        with self._lock:
            now = self._clock()
            if self._taken is None or now - self._taken >= REFRESH_SECONDS / 2:
                self._latest, self._taken = self._parts(), now
            return self._latest

    def response(self) -> Response:
        """A stream of events for one more viewer, or that there are too many."""
        if self.viewers >= MOST_VIEWERS:
            text = f"{MOST_VIEWERS} pages watch this run already; close one, or ask /status"
            return PlainTextResponse(text, 503, {"retry-after": "10"})
        return _Counted(self, self._messages())

    async def _messages(self) -> AsyncIterator[str]:
        sent: Mapping[str, str] = {}
        yield f"retry: {RETRY_MS}\n\n"
        while not self._closed:
            parts = await run_in_threadpool(self.latest)
            changed = {name: text for name, text in parts.items() if sent.get(name) != text}
            sent = parts
            yield f"data: {json.dumps(changed)}\n\n"  # also if nothing has: a page that hears nothing reports it
            next_at = self._clock() + REFRESH_SECONDS
            while not self._closed and self._clock() < next_at:
                await asyncio.sleep(NOTICE_SECONDS)

    def close(self) -> None:
        """End every stream, within `NOTICE_SECONDS`."""
        self._closed = True


class _Counted(StreamingResponse):
    """A response that counts as a viewer for as long as it is being sent, however it ends."""

    def __init__(self, stream: Stream, messages: AsyncIterator[str]) -> None:
        super().__init__(messages, media_type="text/event-stream", headers={"cache-control": "no-store"})
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._stream.viewers += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._stream.viewers -= 1
