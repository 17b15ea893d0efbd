"""What stands before an HTTP application, asked as a server asks it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sandbox import gate
from sandbox.gate import Gate


def test_a_client_that_falls_silent_in_the_middle_of_its_body_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "SILENT_SECONDS", 0.05)
    sent: list[dict[str, Any]] = []
    coming = iter([{"type": "http.request", "body": b"{", "more_body": True}])

    async def receive() -> Any:
        for message in coming:
            return message
        return await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    async def application(*_: Any) -> None:
        raise AssertionError("half a request was passed on")

    scope = {"type": "http", "method": "POST", "path": "/verify", "headers": [(b"content-length", b"30")]}
    asyncio.run(asyncio.wait_for(Gate(application, lambda *_: True, 1000)(scope, receive, send), 30))
    assert sent[0]["status"] == 408
    assert sent[1]["body"] == b"nothing of the body came for 0.05 s; send the request again"
