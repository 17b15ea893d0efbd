"""A link that is cut loses nothing that TCP would not lose."""

import socket
import threading
from collections.abc import Iterator

import pytest

from actors.fleet.relay import Relay
from actors.transport.address import split


@pytest.fixture
def echo() -> Iterator[str]:
    """A server that sends back what it gets."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        while data := connection.recv(100):
            connection.sendall(data)

    threading.Thread(target=serve, daemon=True).start()
    yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    listener.close()


def test_nothing_gets_through_while_it_is_cut_and_everything_afterwards(echo: str) -> None:
    relay = Relay(echo)
    client = socket.create_connection(split(relay.address), 10)
    client.sendall(b"one")
    assert client.recv(100) == b"one"
    relay.cut(True)
    client.sendall(b"two")
    client.settimeout(0.3)
    with pytest.raises(TimeoutError):
        client.recv(100)
    relay.cut(False)
    client.settimeout(10)
    assert client.recv(100) == b"two"
    client.close()
    relay.close()
    relay.cut(True)  # of a process that has ended meanwhile


def test_a_server_that_is_gone_hangs_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        target = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    relay = Relay(target)
    with socket.create_connection(split(relay.address), 10) as client:
        assert client.recv(100) == b""
    relay.close()
