"""Addresses: resolved, judged and bound before anything starts; refusals say what to do."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any, NoReturn

import pytest

from sandbox.errors import InputError
from sandbox.listening import Address, bind, resolve, urls


@pytest.mark.parametrize(
    ("host", "loopback"), [("127.0.0.1", True), ("127.8.9.10", True), ("::1", True), ("0.0.0.0", False), ("::", False)]
)
def test_only_loopback_is_loopback(host: str, loopback: bool) -> None:
    assert [address.is_loopback for address in resolve(host, 0)] == [loopback]


@pytest.mark.parametrize("host", ["no.such.host.invalid", "a..b", "x" * 300])
def test_what_is_no_host_is_bad_input(host: str) -> None:
    with pytest.raises(InputError, match="host"):
        resolve(host, 80)


def test_a_bound_socket_has_a_url() -> None:
    [listener] = bind(resolve("127.0.0.1", 0))
    with listener:
        assert urls([listener]) == [f"http://127.0.0.1:{listener.getsockname()[1]}"]
    assert str(Address(socket.AF_INET6, ("::1", 80, 0, 0))) == "[::1]:80"


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EADDRINUSE, "another --port"),
        (errno.EACCES, "--port of 1024"),
        (errno.EADDRNOTAVAIL, "another --host"),
        (errno.ENOBUFS, "cannot bind"),
    ],
)
def test_a_refusal_says_what_to_do(monkeypatch: pytest.MonkeyPatch, number: int, advice: str) -> None:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(socket, "create_server", refuse)
    with pytest.raises(InputError, match=advice):
        bind(resolve("127.0.0.1", 80))


def test_an_address_that_this_machine_does_not_have_is_skipped_if_others_remain() -> None:
    absent = Address(socket.AF_INET, ("203.0.113.7", 0))
    for addresses in ([absent, *resolve("127.0.0.1", 0)], [*resolve("127.0.0.1", 0), absent]):
        [listener] = bind(addresses)
        listener.close()
