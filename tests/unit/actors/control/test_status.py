"""The controller's pages, without a run behind them."""

import itertools
import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest

from actors.config.network import NetworkConfig, PortsConfig
from actors.control import status, stream
from actors.control.status import MAX_BODY_BYTES, Server
from actors.control.stream import MOST_VIEWERS
from actors.deadline import until
from actors.errors import RecipeError, RunError
from actors.transport.address import resolve, split
from sandbox import gate


class Source:
    is_ready = False

    def ready(self) -> bool:
        return self.is_ready

    def status(self) -> dict[str, Any]:
        return {"step": 3}

    def targets(self) -> list[dict[str, Any]]:
        return [{"targets": ["[::1]:1"], "labels": {"role": "learner"}}]

    def parts(self) -> dict[str, str]:
        return {"part/head": "a run", "title": '"a run"', "ended": "false"}

    def scale(self, pool: str, count: int) -> dict[str, int]:
        if count > 8:
            raise RecipeError(f"{count} is too many")
        return {pool: count}


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def server(source: Source) -> Iterator[Server]:
    server = Server(source, resolve(NetworkConfig(), in_cluster=False))
    yield server
    server.close()


def get(server: Server, path: str, token: str | None = None, method: str = "GET") -> tuple[int, str]:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(server.url.rstrip("/") + path, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_it_is_alive_before_it_is_ready(server: Server, source: Source) -> None:
    code, said = get(server, "/healthz")
    assert (code, json.loads(said)) == (200, {"status": "ok", "instance": server.instance})
    assert get(server, "/readyz")[0] == 503
    source.is_ready = True
    assert get(server, "/readyz")[0] == 200


def test_status_targets_page_and_metrics_are_what_the_source_says(server: Server) -> None:
    assert json.loads(get(server, "/status")[1]) == {"step": 3}
    assert json.loads(get(server, "/targets")[1])[0]["targets"] == ["[::1]:1"]
    assert "a run" in get(server, "/")[1]
    assert "leeway_busy_seconds_total" in get(server, "/metrics")[1]


def test_the_page_may_be_framed_and_kept_by_nobody(server: Server) -> None:
    with urllib.request.urlopen(server.url, timeout=60) as response:
        assert "frame-ancestors 'none'" in response.headers["content-security-policy"]
        assert response.headers["content-security-policy"].startswith("default-src 'none'")
        assert response.headers["cache-control"] == "no-store"


def test_so_many_may_watch_and_whoever_leaves_makes_room(server: Server) -> None:
    with ExitStack() as watching:
        for _ in range(MOST_VIEWERS):
            stream = watching.enter_context(urllib.request.urlopen(server.url + "events", timeout=60))
            assert stream.readline() == b"retry: 2000\n"
        assert get(server, "/events")[0] == 503
        assert get(server, "/healthz")[0] == 200

    def again() -> bool:
        try:
            urllib.request.urlopen(server.url + "events", timeout=60).close()
        except urllib.error.HTTPError:
            return False
        return True

    assert until(again, 30)


def test_a_page_that_nobody_reads_any_more_makes_room(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "UNREAD_SECONDS", 1.0)
    monkeypatch.setattr(stream, "MOST_VIEWERS", 1)
    monkeypatch.setattr(stream, "REFRESH_SECONDS", 0.01)
    monkeypatch.setattr(stream, "NOTICE_SECONDS", 0.01)
    numbers = itertools.count()
    monkeypatch.setattr(source, "parts", lambda: {"part/head": str(next(numbers)) * 2**16})
    with closing(Server(source, resolve(NetworkConfig(), in_cluster=False))) as server, socket.socket() as suspended:
        suspended.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        suspended.settimeout(30)
        suspended.connect(split(server.address))
        suspended.sendall(b"GET /events HTTP/1.1\r\nhost: here\r\n\r\n")
        assert suspended.recv(12) == b"HTTP/1.1 200"  # and reads no more

        def room() -> bool:
            try:
                urllib.request.urlopen(server.url + "events", timeout=30).close()
            except urllib.error.HTTPError as error:
                assert error.code == 503
                return False
            return True

        assert not room()
        assert until(room, 60)


def test_whoever_sends_half_a_request_is_answered_and_hung_up_on(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "SILENT_SECONDS", 0.1)
    server = Server(source, resolve(NetworkConfig(), in_cluster=False), token="secret")
    request = b"POST /scale HTTP/1.1\r\nhost: here\r\nauthorization: Bearer secret\r\ncontent-length: 30\r\n\r\n{"
    with closing(server), socket.create_connection(split(server.address), 30) as silent:
        silent.sendall(request)
        answer = b"".join(iter(lambda: silent.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 408") and b"nothing of the body came for 0.1 s" in answer


def test_whoever_watches_is_let_go_when_it_closes(source: Source) -> None:
    server = Server(source, resolve(NetworkConfig(), in_cluster=False))
    with urllib.request.urlopen(server.url + "events", timeout=60) as stream:
        assert stream.readline()
        server.close()
        told = stream.read().decode()  # to its end
    assert "a run" in told


def test_a_taken_port_is_named_with_its_key(server: Server) -> None:
    port = int(server.address.rpartition(":")[2])
    node = resolve(NetworkConfig(ports=PortsConfig(status=port)), in_cluster=False)
    with pytest.raises(RunError, match=rf"network.ports.status.*{port}"):
        Server(Source(), node)


def test_a_page_stays_where_it_was_until_its_controller_was_ended(server: Server, source: Source) -> None:
    port = int(server.address.rpartition(":")[2])
    threading.Timer(0.2, server.close).start()
    for ports in (PortsConfig(), PortsConfig(status=port)):
        node = resolve(NetworkConfig(ports=ports), in_cluster=False)
        with closing(Server(source, node, before=server.url)) as successor:
            assert successor.url == server.url


def test_a_page_moves_where_its_port_is_not_freed(
    server: Server, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "FREED_SECONDS", 0.1)
    port = int(server.address.rpartition(":")[2])
    node = resolve(NetworkConfig(ports=PortsConfig(status=port)), in_cluster=False)
    with closing(Server(source, node, before="")) as successor:
        assert get(successor, "/healthz")[0] == 200
        assert successor.url != server.url


def test_what_changes_something_needs_the_token(source: Source) -> None:
    with closing(Server(source, resolve(NetworkConfig(), in_cluster=False), "s3cret")) as server:
        assert get(server, "/status")[0] == 200
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            for token in (None, "", "another", "s3cre", "s3crets"):
                assert get(server, "/status", token, method)[0] == 401
            assert get(server, "/status", "s3cret", method)[0] == 405


def test_without_a_token_nothing_can_be_changed(server: Server) -> None:
    assert get(server, "/status", "None", "POST")[0] == 401


def test_everything_but_the_probes_can_be_made_to_need_the_token(source: Source) -> None:
    source.is_ready = True
    node = resolve(NetworkConfig(), in_cluster=False)
    with closing(Server(source, node, "s3cret", everything=True)) as server:
        for path in ("/status", "/targets", "/metrics", "/", "/events", "/nowhere", "/openapi.json"):
            assert get(server, path)[0] == 401
        assert get(server, "/status", "s3cret")[0] == 200
        assert [get(server, path)[0] for path in ("/healthz", "/readyz")] == [200, 200]


def test_a_body_without_an_end_is_refused(source: Source) -> None:
    with closing(Server(source, resolve(NetworkConfig(), in_cluster=False), "s3cret")) as server:
        url = server.url.rstrip("/") + "/status"
        body = bytes(MAX_BODY_BYTES + 1)
        request = urllib.request.Request(url, body, {"Authorization": "Bearer s3cret"}, method="POST")
        with pytest.raises((urllib.error.HTTPError, ConnectionError, urllib.error.URLError)) as refused:
            urllib.request.urlopen(request, timeout=60)
        assert not isinstance(refused.value, urllib.error.HTTPError) or refused.value.code == 413
