"""Where ranks meet: on our own socket, of either family, under another address than the one that is bound."""

import socket
from datetime import timedelta

import pytest

from actors.config.network import PortsConfig
from actors.deadline import until
from actors.transport.address import Node, split
from actors.transport.store import reach_store, serve_store


@pytest.mark.parametrize(
    ("bind", "advertise"), [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("0.0.0.0", "127.0.0.2"), ("::", "::1")]
)
def test_two_ranks_meet(bind: str, advertise: str) -> None:
    store, address = serve_store(Node(bind, advertise, PortsConfig()), 2, 20)
    assert split(address)[0] == advertise
    other = reach_store(address, 2, 20)
    other.set("key", "value")
    store.wait(["key"], timedelta(seconds=20))
    assert store.get("key") == b"value"


def test_a_store_listens_on_the_advertised_address_alone() -> None:
    store, address = serve_store(Node("0.0.0.0", "127.0.0.3", PortsConfig()), 1, 20)
    with socket.socket() as elsewhere:
        elsewhere.settimeout(5)
        assert elsewhere.connect_ex(("127.0.0.1", split(address)[1])) != 0
    with socket.create_connection(split(address), 5):
        pass
    del store


def test_where_something_in_front_has_the_advertised_address_a_store_listens_as_it_is_told() -> None:
    store, address = serve_store(Node("0.0.0.0", "192.0.2.7", PortsConfig()), 1, 20)
    assert split(address)[0] == "192.0.2.7"
    with socket.create_connection(("127.0.0.1", split(address)[1]), 5):
        pass
    del store


def test_a_store_that_is_gone_frees_its_port() -> None:
    store, address = serve_store(Node("127.0.0.1", "127.0.0.1", PortsConfig()), 1, 20)
    del store

    def free() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(split(address)) != 0

    assert until(free, 30)
