"""Where the processes of a run listen, and the addresses that they tell each other. Nobody binds what it advertises.

network.bind   network.advertise   one machine                     in a cluster
-              -                   loopback, loopback              all addresses, the node's own
-              given               all of its family, as given; loopback where a loopback is given
given          -                   what reaches it from outside: its loopback for all addresses (in a cluster the
                                   node's own), and a single address itself
given          given               as given
"""

import errno
import ipaddress
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TypeVar
from urllib.parse import urlsplit

from actors.config.network import NetworkConfig, PortsConfig
from actors.deadline import until
from actors.errors import RunError

T = TypeVar("T")

#: Somewhere beyond the default route, from the ranges reserved for documentation. Nothing is ever sent there.
_OUTSIDE = ("192.0.2.1", "2001:db8::1")
_LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
_ALL = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}
_BACKLOG = 128
#: Whoever takes the place of a process that is being ended gets its fixed port within so long (s).
FREED_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Node:
    """This process's place in the network.

    Attributes:
        bind: address that its servers listen on.
        advertise: address under which others reach them.
        ports: which ports they may have.
    """

    bind: str
    advertise: str
    ports: PortsConfig

    def at(self, port: int) -> str:
        """`host:port` of a server of this process, as others reach it."""
        return host_port(self.advertise, port)

    def narrowed(self) -> "Node":
        """The same place, for a server that has no keys: it listens on no other address than the advertised one.

        Where that is the address of something in front of this machine, as it was.
        """
        if not _is_all(self.bind):
            return self
        try:
            with socket.socket(family(self.advertise), socket.SOCK_STREAM) as probe:
                probe.bind((self.advertise, 0))
        except OSError:
            return self
        return replace(self, bind=self.advertise)

    @property
    def local(self) -> str:
        """An address under which this process reaches its own servers, whatever others must use."""
        return _LOOPBACK[family(self.bind)] if _is_all(self.bind) else self.bind


def resolve(network: NetworkConfig, in_cluster: bool, peer: str = "") -> Node:
    """This process's node.

    Args:
        network: the recipe's section.
        in_cluster: whether processes of the run may be on other machines.
        peer: endpoint of a process that this one must reach, such as `tcp://10.0.0.1:5555`.

    Raises:
        RunError: where a node in a cluster has no address that others could reach.
    """
    bind, advertise = network.bind, network.advertise
    if advertise is None:
        if bind is not None and not _is_all(bind):
            advertise = bind
        elif in_cluster:
            advertise = own_address(split(peer)[0] if peer else "", family(bind) if bind else None)
        else:
            advertise = _LOOPBACK[family(bind) if bind else socket.AF_INET]
        if bind is None and not in_cluster:
            bind = advertise
    if bind is None:
        explicit_loopback = network.advertise is not None and ipaddress.ip_address(advertise).is_loopback
        bind = advertise if explicit_loopback else _ALL[family(advertise)]
    return Node(bind, advertise, network.ports)


def own_address(peer: str = "", of_family: socket.AddressFamily | None = None) -> str:
    """The address of this machine's interface that reaches `peer`, or the default route where there is none.

    Raises:
        RunError: where there is no such interface.
    """
    for target in (peer,) if peer else _OUTSIDE:
        if not peer and of_family not in (None, family(target)):
            continue
        try:
            found = socket.getaddrinfo(target, 9, type=socket.SOCK_DGRAM)
            with socket.socket(found[0][0], socket.SOCK_DGRAM) as probe:
                probe.connect(found[0][4])  # of a datagram socket: looks the route up, and sends nothing
                return str(probe.getsockname()[0])
        except OSError:
            continue
    raise RunError(
        f"this machine has no address that reaches {peer or 'other machines'}; set network.advertise to the one under "
        "which others reach it"
    )


# ---------------------------------------------------------------- ports


def bind_port(node: Node, bind: Callable[[int], T], fixed: int = 0, key: str = "", seconds: float = 0.0) -> T:
    """What `bind(port)` returns for the first port that is free: the only one where it is fixed, else one of
    `network.ports.range`, else any.

    Args:
        node: where to listen.
        bind: binds and returns a server; raises OSError where it cannot.
        fixed: the only port that will do; 0 for any.
        key: option that fixes it, for the error.
        seconds: how long the fixed one may still be taken, by a process that is being ended (s).

    Raises:
        RunError: where all ports are taken, or `network.bind` is no address of this machine.
    """
    first, last = (fixed, fixed) if fixed else node.ports.range or (0, 0)
    found: list[T] = []

    def bound() -> bool:
        for port in range(first, last + 1):
            try:
                found.append(bind(port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    where = host_port(node.bind, port)
                    raise RunError(
                        f"cannot listen on {where}: {error.strerror or error}; check network.bind and network.ports"
                    ) from error
            else:
                return True
        return False

    if until(bound, seconds if fixed else 0.0):
        return found[0]
    if fixed:
        raise RunError(f"{key or 'port'}: port {fixed} of {node.bind} is taken; choose another, or 0 for any free one")
    raise RunError(f"network.ports.range: all ports from {first} to {last} of {node.bind} are taken; widen it")


def listen(node: Node, fixed: int = 0, key: str = "", seconds: float = 0.0) -> socket.socket:
    """A listening TCP socket, for libraries that take one. See `bind_port`."""

    def bound(port: int) -> socket.socket:
        listener = socket.socket(family(node.bind), socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((node.bind, port))
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            raise
        return listener

    return bind_port(node, bound, fixed, key, seconds)


# ---------------------------------------------------------------- text


def host_port(host: str, port: int) -> str:
    """`host:port`, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split(address: str) -> tuple[str, int]:
    """Host and port of `host:port`, `[::1]:port`, an endpoint or a URL; the host has no brackets.

    Raises:
        ValueError: where it is none of these.
    """
    parts = urlsplit(address if "://" in address else f"//{address}")
    if not parts.hostname or parts.port is None:
        raise ValueError(f"{address!r} is not host:port")
    return parts.hostname, parts.port


def endpoint(host: str, port: int) -> str:
    """The address of a ZeroMQ socket."""
    return f"tcp://{host_port(host, port)}"


def joined(endpoints: Iterable[str]) -> str:
    """The address of a service of several processes."""
    return ",".join(endpoints)


def endpoints(address: str) -> list[str]:
    """The endpoints of the processes in it."""
    return address.split(",")


def is_elsewhere(endpoint: str) -> bool:
    """Whether an endpoint, of a literal address or a name, may be on another machine."""
    host, _ = split(endpoint)
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"


def url(host: str, port: int) -> str:
    """The address of an HTTP server."""
    return f"http://{host_port(host, port)}/"


def family(address: str) -> socket.AddressFamily:
    """Of a literal address: AF_INET or AF_INET6."""
    return socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET


def _is_all(address: str) -> bool:
    return ipaddress.ip_address(address).is_unspecified
