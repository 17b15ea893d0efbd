"""What a process binds, what it tells others, and which port it takes."""

import socket
import threading

import pytest
from pydantic import ValidationError

from actors.config.network import NetworkConfig, PortsConfig
from actors.errors import RunError
from actors.transport import address as a
from actors.transport.address import Node, host_port, listen, resolve, split


def node(ports: PortsConfig | None = None, bind: str = "127.0.0.1") -> Node:
    return Node(bind, bind, ports or PortsConfig())


@pytest.mark.parametrize(
    ("bind", "advertise", "expected"),
    [
        (None, None, ("127.0.0.1", "127.0.0.1")),
        (None, "::1", ("::1", "::1")),
        (None, "127.0.0.2", ("127.0.0.2", "127.0.0.2")),
        (None, "192.0.2.7", ("0.0.0.0", "192.0.2.7")),
        (None, "2001:db8::7", ("::", "2001:db8::7")),
        ("0.0.0.0", None, ("0.0.0.0", "127.0.0.1")),
        ("::", None, ("::", "::1")),
        ("192.0.2.7", None, ("192.0.2.7", "192.0.2.7")),
        ("192.0.2.7", "203.0.113.1", ("192.0.2.7", "203.0.113.1")),
        ("::", "192.0.2.7", ("::", "192.0.2.7")),
    ],
)
def test_a_run_on_one_machine(bind: str | None, advertise: str | None, expected: tuple[str, str]) -> None:
    found = resolve(NetworkConfig(bind=bind, advertise=advertise), in_cluster=False)
    assert (found.bind, found.advertise) == expected


@pytest.mark.parametrize(("peer", "every"), [("tcp://127.0.0.1:5555", "0.0.0.0"), ("tcp://[::1]:5555", "::")])
def test_in_a_cluster_a_node_tells_the_address_that_reaches_its_peer(peer: str, every: str) -> None:
    found = resolve(NetworkConfig(), in_cluster=True, peer=peer)
    assert (found.bind, found.advertise) == (every, split(peer)[0])


def test_in_a_cluster_without_a_peer_the_default_route_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(a, "_OUTSIDE", ("127.0.0.9", "::1"))
    assert resolve(NetworkConfig(), in_cluster=True).bind == "0.0.0.0"
    assert resolve(NetworkConfig(bind="::"), in_cluster=True).advertise == "::1"


def test_a_node_without_an_address_is_told_which_option_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("network is unreachable")

    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    with pytest.raises(RunError, match=r"network\.advertise"):
        resolve(NetworkConfig(), in_cluster=True)


@pytest.mark.parametrize(("bind", "advertise"), [("0.0.0.0", "::1"), ("::1", "10.0.0.1")])
def test_an_advertised_address_of_a_family_that_nobody_listens_on_is_refused(bind: str, advertise: str) -> None:
    with pytest.raises(ValidationError, match="advertise"):
        NetworkConfig(bind=bind, advertise=advertise)


def test_each_server_takes_the_next_port_of_the_range_until_all_are_taken() -> None:
    with listen(node()) as probe:
        first = probe.getsockname()[1]
    ports = PortsConfig(range=(first, min(first + 3, 65535)))
    taken = []
    with pytest.raises(RunError, match=r"network\.ports\.range.*taken"):
        while True:
            taken.append(listen(node(ports)))
    numbers = [server.getsockname()[1] for server in taken]
    assert len(set(numbers)) == len(numbers) <= 4
    assert all(ports.range and ports.range[0] <= number <= ports.range[1] for number in numbers)
    for server in taken:
        server.close()


def test_a_fixed_port_that_is_taken_names_its_option() -> None:
    with listen(node()) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(RunError, match=rf"network\.ports\.status: port {port} .* taken"):
            listen(node(), port, "network.ports.status")


def test_a_fixed_port_is_had_once_the_process_that_is_being_ended_has_left_it() -> None:
    with listen(node()) as taken:
        port = taken.getsockname()[1]
        threading.Timer(0.2, taken.close).start()
        with listen(node(), port, "network.ports.status", seconds=60.0) as server:
            assert server.getsockname()[1] == port


def test_an_address_of_another_machine_cannot_be_bound() -> None:
    with pytest.raises(RunError, match=r"network\.bind"):
        listen(node(bind="192.0.2.77"))


def test_all_addresses_are_both_families() -> None:
    with listen(node(bind="::")) as server:
        port = server.getsockname()[1]
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, port), timeout=5).close()


@pytest.mark.parametrize(("host", "text"), [("127.0.0.1", "127.0.0.1:80"), ("::1", "[::1]:80")])
def test_host_and_port_go_to_text_and_back(host: str, text: str) -> None:
    assert host_port(host, 80) == text
    assert a.url(host, 80) == f"http://{text}/"
    for written in (text, a.endpoint(host, 80), a.url(host, 80)):
        assert split(written) == (host, 80)


@pytest.mark.parametrize("text", ["", "host", "tcp://host", "host:port", ":80"])
def test_text_without_host_or_port_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        split(text)
