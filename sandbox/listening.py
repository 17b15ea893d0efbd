"""Sockets that listen: resolved, checked and bound before anything expensive starts."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sandbox.errors import InputError

_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


@dataclass(frozen=True, slots=True)
class Address:
    """One address that a host name stands for.

    Attributes:
        family: AF_INET or AF_INET6.
        sockaddr: what `socket.bind` takes.
    """

    family: int
    sockaddr: Any

    @property
    def is_loopback(self) -> bool:
        """Whether only processes of this machine can reach it."""
        host: str = self.sockaddr[0]
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback

    def __str__(self) -> str:
        host, port = self.sockaddr[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def resolve(host: str, port: int) -> list[Address]:
    """The addresses of a host, each once.

    Raises:
        InputError: it has none.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise InputError(f"host {host!r} cannot be resolved: {error.strerror}") from None
    except UnicodeError:
        raise InputError(f"host {host!r} is no host name") from None
    known = dict.fromkeys((family, sockaddr) for family, _, _, _, sockaddr in found)
    return [Address(family, sockaddr) for family, sockaddr in known if family in (socket.AF_INET, socket.AF_INET6)]


def bind(addresses: list[Address]) -> list[socket.socket]:
    """A listening socket on each address; those that this machine does not have are skipped if others remain.

    Raises:
        InputError: an address cannot be bound; the message says what to do.
    """
    made: list[socket.socket] = []
    try:
        for address in addresses:
            try:
                made.append(socket.create_server(address.sockaddr, family=address.family))
            except OSError as error:
                if error.errno in _NOT_HERE and (made or address is not addresses[-1]):
                    continue
                raise InputError(_refusal(address, error)) from None
    except InputError:
        for one in made:
            one.close()
        raise
    return made


def urls(sockets: Iterable[socket.socket]) -> list[str]:
    """The URL of each socket."""
    return [f"http://{Address(one.family, one.getsockname())}" for one in sockets]


def _refusal(address: Address, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"{address} is in use by another process: choose another --port, or 0 for any free one"
    if error.errno == errno.EACCES:
        return f"{address} needs privileges: choose a --port of 1024 or above"
    if error.errno in _NOT_HERE:
        return f"{address} is no address of this machine: choose another --host"
    return f"cannot bind {address}: {error.strerror}"
