"""One epoch's calls, without sockets."""

import threading
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from actors.weights.messages import Answer
from actors.weights.session import Epoch, MembersLostError, SyncClient, Tensors

INFO = {"master_address": "::1", "master_port": 1, "rank_offset": 1, "world_size": 4}


class Recording:
    """Answers every call; an `aborted` one as the publisher does."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, dict[str, Any]]]] = []

    def __call__(
        self, kind: str, bodies: Mapping[str, Mapping[str, Any]], aborted: threading.Event
    ) -> Mapping[str, Answer]:
        if aborted.is_set():
            raise MembersLostError(set(bodies), "given up")
        self.calls.append((kind, {name: dict(body) for name, body in bodies.items()}))
        pauses = {"a": 0.1, "b": 0.4}
        return {name: Answer(name=name, pause_seconds=pauses[name]) for name in bodies}


class FakeTransport:
    def __init__(self, client: SyncClient, ranks: int) -> None:
        self.client, self.ranks, self.closed = client, ranks, False
        client.init_weight_transfer_engine(dict(INFO))

    def send(self, tensors: Tensors) -> int:
        self.client.start_weight_update()
        self.client.update_weights({"names": [name for name, _ in tensors]})
        self.client.finish_weight_update()
        return 7

    def close(self) -> None:
        self.closed = True


def test_an_update_is_received_and_committed_by_every_member() -> None:
    call = Recording()
    epoch = Epoch(3, {"a": 2, "b": 1}, call, {"scale": 2.0})
    made: list[FakeTransport] = []

    def connect(client: SyncClient, ranks: int) -> FakeTransport:
        made.append(FakeTransport(client, ranks))
        return made[-1]

    epoch.open(connect)
    assert made[0].ranks == 4
    measured = epoch.update(5, [("w", torch.zeros(1))])
    assert (measured.bytes, measured.pause_seconds) == (7, 0.4)
    assert call.calls == [
        ("open", {"a": INFO | {"rank_offset": 1, "epoch": 3}, "b": INFO | {"rank_offset": 3, "epoch": 3}}),
        ("start", {name: {"epoch": 3} for name in ("a", "b")}),
        ("update", {name: {"names": ["w"], "merging": {"scale": 2.0}, "epoch": 3} for name in ("a", "b")}),
        ("finish", {name: {"version": 5, "epoch": 3} for name in ("a", "b")}),
    ]


def test_an_aborted_epoch_gives_its_group_up_and_can_not_be_used_again() -> None:
    call = Recording()
    epoch = Epoch(1, {"a": 1}, call)
    made: list[FakeTransport] = []
    epoch.open(lambda client, ranks: made.append(FakeTransport(client, ranks)) or made[0])  # type: ignore[func-returns-value]
    epoch.abort()
    assert made[0].closed
    with pytest.raises(MembersLostError, match="given up"):
        epoch.start_weight_update()
    with pytest.raises(RuntimeError):
        epoch.update(1, [])
