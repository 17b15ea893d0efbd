"""Attacks on a server that wants keys, over real sockets: each gets nothing, and whoever is listed is served all along.

A wire that is recorded, cut and made up goes through plain TCP sockets; other clients are plain pyzmq.
"""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import zmq

from actors.config.network import NetworkConfig
from actors.deadline import until
from actors.errors import RunError
from actors.observability import metrics
from actors.transport import keys, sockets
from actors.transport.address import Node, resolve, split
from actors.transport.admission import Limits
from actors.transport.sockets import DealerSocket, RouterSocket, open_router

LIMIT = 2**20
#: What ZMTP shows to anybody who connects: that CURVE is wanted, and nothing of the run.
GREETING_BYTES = 64
HELLO = b"\xff" + bytes(8) + b"\x7f\x03\x01CURVE" + bytes(15) + bytes(32)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Keys of which this process makes use."""
    monkeypatch.setenv(keys.FOLDER, str(tmp_path / "keys"))
    keys.create(tmp_path / "keys")
    sockets.use_keys(keys.load())
    yield tmp_path / "keys"
    sockets.use_keys(None)


def node() -> Node:
    return resolve(NetworkConfig(), in_cluster=False)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server waits longer for the end of a handshake than any test takes."""
    monkeypatch.setattr(sockets, "HANDSHAKE_SECONDS", 600.0)


@pytest.fixture
def server(folder: Path) -> Iterator[RouterSocket]:  # noqa: ARG001 - it makes the keys
    """Answers each message with itself."""
    router = open_router(node(), 0, LIMIT, limits=Limits(connections=200, unknown=32))
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            if router.poll(0.02) and (found := router.receive()):
                router.send(*found)

    thread = threading.Thread(target=serve)
    thread.start()
    yield router
    stop.set()
    thread.join()
    router.close()


def served(endpoint: str, text: bytes = b"hello", seconds: float = 60) -> bool:
    with closing(DealerSocket(endpoint, LIMIT)) as client:
        client.send([text])
        return client.poll(seconds) and client.receive() == [text]


@contextmanager
def stranger(endpoint: str, prepare: Callable[[Any], None]) -> Iterator[Any]:
    with zmq.Context() as context, closing(context.socket(zmq.DEALER)) as client:
        client.setsockopt(zmq.LINGER, 0)
        prepare(client)
        client.connect(endpoint)
        yield client


def with_keys(server_public: bytes, pair: tuple[bytes, bytes]) -> Callable[[Any], None]:
    def prepare(client: Any) -> None:
        client.curve_serverkey = server_public
        client.curve_publickey, client.curve_secretkey = pair

    return prepare


def listed(folder: Path) -> tuple[bytes, bytes]:
    secret = (folder / "client.secret").read_bytes().strip()
    return zmq.curve_public(secret), secret


def refused(reason: str) -> float:
    return float(metrics.CONNECTIONS_REFUSED.labels(reason)._value.get())


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def answers(endpoint: str, sent: bytes, seconds: float = 1.0) -> tuple[bytes, bool]:
    """What a plain TCP client is told for `sent`, and whether it was disconnected by then."""
    with socket.create_connection(split(endpoint), 5) as connection:
        with suppress(OSError):
            connection.sendall(sent)
        connection.settimeout(seconds)
        told = b""
        try:
            while chunk := connection.recv(65536):
                told += chunk
        except TimeoutError:
            return told, False
        except ConnectionResetError:
            pass
        return told, True


def test_a_listed_client_is_served(server: RouterSocket) -> None:
    assert served(server.endpoint)


@pytest.mark.parametrize("who", ["plain", "password", "wrong server", "unlisted"])
def test_a_stranger_gets_no_answer_and_no_error(server: RouterSocket, folder: Path, who: str) -> None:
    server_public = (folder / "server.public").read_bytes().strip()

    def password(client: Any) -> None:
        client.plain_username, client.plain_password = b"admin", b"admin"

    prepare = {
        "plain": lambda _: None,
        "password": password,
        "wrong server": with_keys(zmq.curve_keypair()[0], listed(folder)),
        "unlisted": with_keys(server_public, zmq.curve_keypair()),
    }[who]
    before = sum(refused(reason) for reason in ("unauthorized", "handshake"))
    with stranger(server.endpoint, prepare) as client, closing(client.get_monitor_socket()) as monitor:
        with suppress(zmq.Again):  # it may have been refused by now, and there is nobody to send to any more
            client.send(b"let me in", zmq.NOBLOCK)
        assert until(lambda: sum(refused(r) for r in ("unauthorized", "handshake")) > before, 30)
        assert not client.poll(300)
        events = []
        while monitor.poll(0):
            events.append(zmq.utils.monitor.recv_monitor_message(monitor)["event"])
        assert zmq.Event.HANDSHAKE_FAILED_AUTH not in events, "the refusal came with a status"
        assert zmq.Event.HANDSHAKE_SUCCEEDED not in events
        client.disable_monitor()
    assert served(server.endpoint)


def test_a_client_whose_key_is_taken_off_the_list_does_not_come_back(
    server: RouterSocket, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "REREAD_SECONDS", 0.0)
    assert served(server.endpoint)
    (folder / "authorized" / "client.public").unlink()
    assert not served(server.endpoint, seconds=0.5)


@pytest.mark.usefixtures("folder")
def test_a_client_does_not_talk_to_a_server_with_another_key() -> None:
    """Not even where that server would let anybody in."""
    with zmq.Context() as context, closing(context.socket(zmq.ROUTER)) as false:
        false.setsockopt(zmq.LINGER, 0)
        false.curve_server = True
        false.curve_secretkey = zmq.curve_keypair()[1]
        port = false.bind_to_random_port("tcp://127.0.0.1")
        with closing(DealerSocket(f"tcp://127.0.0.1:{port}", LIMIT)) as client:
            client.send([b"secret prompt"])
            assert not false.poll(500)


def test_a_conversation_that_was_recorded_opens_nothing(server: RouterSocket) -> None:
    """Everything that a listed client once sent, sent again."""
    host, port = split(server.endpoint)
    recorded = bytearray()
    with closing(socket.create_server(("127.0.0.1", 0))) as between:

        def relay() -> None:
            near, _ = between.accept()
            with near, socket.create_connection((host, port)) as far, suppress(OSError):
                pump = threading.Thread(target=copy, args=(far, near, None))
                pump.start()
                copy(near, far, recorded)
                pump.join()

        def copy(source: socket.socket, sink: socket.socket, record: bytearray | None) -> None:
            with suppress(OSError):
                while chunk := source.recv(65536):
                    if record is not None:
                        record += chunk
                    sink.sendall(chunk)
                sink.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=relay)
        thread.start()
        assert served(f"tcp://127.0.0.1:{between.getsockname()[1]}", b"once")
        thread.join(60)
    assert len(recorded) > 500 and b"once" not in recorded
    told, cut = answers(server.endpoint, bytes(recorded), seconds=60)
    assert cut and b"once" not in told
    assert len(told) <= GREETING_BYTES + 170, "more than the greeting and one WELCOME, which anybody may have"
    assert served(server.endpoint)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01" + bytes(200),
        HELLO + b"\x04\xc8\x05HELLO" + os.urandom(194),
        HELLO + b"\x04\xff\x08INITIATE" + os.urandom(246),
        HELLO + b"\x00\x05hello",
        HELLO + b"\x06" + b"\xff" * 8,
        HELLO + b"\x02" + (2**40).to_bytes(8, "big") + bytes(1000),
        HELLO.replace(b"CURVE", b"NULL\0") + b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x06DEALER",
        os.urandom(5000),
    ],
    ids=["http", "tls", "hello", "initiate", "message", "length", "terabyte", "null", "noise"],
)
def test_garbage_gets_at_most_a_greeting(server: RouterSocket, sent: bytes) -> None:
    told, _ = answers(server.endpoint, sent)
    assert len(told) <= GREETING_BYTES
    assert served(server.endpoint)


@pytest.mark.usefixtures("folder")
def test_whoever_says_nothing_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "HANDSHAKE_SECONDS", 0.3)
    with closing(open_router(node(), 0, LIMIT)) as router, socket.create_connection(split(router.endpoint)) as silent:
        silent.settimeout(60)
        with suppress(ConnectionResetError):
            while silent.recv(100):
                pass


@pytest.mark.usefixtures("patient")
def test_a_flood_of_half_open_connections_is_bounded_and_keeps_nobody_out(server: RouterSocket) -> None:
    open_before = descriptors()
    steady = DealerSocket(server.endpoint, LIMIT)
    steady.send([b"before"])
    assert steady.poll(60) and steady.receive() == [b"before"]
    with ExitStack() as flood:
        flood.callback(steady.close)
        mine = 0
        for _ in range(300):
            connection = flood.enter_context(socket.create_connection(split(server.endpoint), 5))
            connection.sendall(HELLO[: 1 + mine % 64])
            mine += 1
        assert until(lambda: descriptors() - open_before - mine < 60, 30), "the server holds all of them"
        assert served(server.endpoint)
        steady.send([b"still here"])
        assert steady.poll(60) and steady.receive() == [b"still here"]
    assert refused("too many") > 0


@pytest.mark.usefixtures("folder")
def test_connections_beyond_the_limit_are_cut_and_those_that_are_there_stay() -> None:
    router = open_router(node(), 0, LIMIT, limits=Limits(connections=3, unknown=32))
    with ExitStack() as stack:
        stack.callback(router.close)
        clients = [stack.enter_context(closing(DealerSocket(router.endpoint, LIMIT))) for _ in range(3)]
        for number, client in enumerate(clients):
            client.send([b"%d" % number])
            assert router.poll(60) and router.receive()
        before = refused("too many")
        late = stack.enter_context(closing(DealerSocket(router.endpoint, LIMIT)))
        late.send([b"late"])
        assert until(lambda: refused("too many") > before, 30)
        for client in clients:
            client.send([b"again"])
            assert router.poll(60)
            found = router.receive()
            assert found is not None and found[1] == [b"again"]


def test_a_process_without_the_servers_secret_serves_nobody(folder: Path) -> None:
    (folder / "server.secret").unlink()
    sockets.use_keys(keys.load())
    with pytest.raises(RunError, match=r"server\.secret"):
        open_router(node(), 0, LIMIT)
