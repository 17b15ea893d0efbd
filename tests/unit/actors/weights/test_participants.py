"""Whom the publisher speaks to, some of whom speak without an end."""

import threading
from contextlib import closing

import pytest

from actors.config.network import NetworkConfig
from actors.transport.address import resolve
from actors.transport.codec import Message, encode
from actors.weights import participants
from actors.weights.participants import Participants
from actors.weights.session import MembersLostError


def test_one_that_sends_without_an_end_does_not_hide_who_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    node = resolve(NetworkConfig(), in_cluster=False)
    everybody = frozenset({"late", "loud"})
    taken = [0]

    def flood() -> tuple[bytes, list[bytes]]:
        taken[0] += 1
        assert taken[0] < 10**6, "the deadline was never looked at"
        name = b"late" if taken[0] == 1 else b"loud"
        return name, encode(Message("register", 0, {"name": name.decode(), "workers": 1, "version": None}))

    monkeypatch.setattr(participants, "IDLE_SECONDS", 0.0)
    with closing(Participants(node, lambda: everybody, timeout_seconds=60, deadline_seconds=0.2)) as publisher:
        monkeypatch.setattr(publisher._socket, "receive", flood)
        publisher.take_messages(0.0)
        assert set(publisher.registered) == everybody
        with pytest.raises(MembersLostError, match=r"no answer to open in 0\.2 s") as lost:
            publisher.call("open", {"late": {}}, threading.Event())
    assert lost.value.names == {"late"}
