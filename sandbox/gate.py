"""Before an HTTP application: who may ask, and how much, decided before a byte of the body is read."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
#: Longest silence of a client in the middle of its request's body (s).
SILENT_SECONDS = 30.0
#: Whether a request may pass, from its method, its path and its Authorization header.
Admits = Callable[[str, str, bytes], bool]


class Token:
    """A bearer token. Comparing takes as long whatever is given."""

    def __init__(self, token: str) -> None:
        self._header = f"Bearer {token}".encode()

    def matches(self, authorization: bytes) -> bool:
        """Whether an Authorization header has it."""
        return hmac.compare_digest(authorization, self._header)


class Gate:
    """ASGI middleware: asks whether a request may pass, then counts its body while it arrives."""

    def __init__(self, app: Callable[..., Awaitable[None]], admits: Admits, max_body_bytes: int) -> None:
        self._app, self._admits, self._max_body_bytes = app, admits, max_body_bytes

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if not self._admits(scope["method"], scope["path"], headers.get(b"authorization", b"")):
            await _refuse(send, 401, "a bearer token is needed", [(b"www-authenticate", b"Bearer")])
            return
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length[:20]) > self._max_body_bytes:
            await _refuse(send, 413, f"the body may have {self._max_body_bytes} bytes")
            return
        try:
            body = await self._body(receive)
        except TimeoutError:
            await _refuse(send, 408, f"nothing of the body came for {SILENT_SECONDS:g} s; send the request again")
            return
        if body is None:
            await _refuse(send, 413, f"the body may have {self._max_body_bytes} bytes")
            return
        await self._app(scope, _replay(body, receive), send)

    async def _body(self, receive: Receive) -> bytes | None:
        """The whole body, or None if it is too long; a chunked one declares no length.

        Raises:
            TimeoutError: the client has fallen silent.
        """
        body = bytearray()
        while True:
            async with asyncio.timeout(SILENT_SECONDS):
                message = await receive()
            if message["type"] != "http.request":
                return bytes(body)
            body += message.get("body", b"")
            if len(body) > self._max_body_bytes:
                return None
            if not message.get("more_body", False):
                return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def replayed() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


async def _refuse(send: Send, status: int, text: str, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    plain = [(b"content-type", b"text/plain"), *(headers or [])]
    await send({"type": "http.response.start", "status": status, "headers": plain})
    await send({"type": "http.response.body", "body": text.encode()})
