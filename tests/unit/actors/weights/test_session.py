"""One epoch's calls, without sockets."""

import threading
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from actors.weights.messages import Answer, TensorList
from actors.weights.session import Epoch, MembersLostError, SupersededError, SyncClient, Tensors

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


class Senders(Recording):
    """Also answers for two senders, of which `ahead` have gone on to the next version."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead: set[str] = set()

    def __call__(
        self, kind: str, bodies: Mapping[str, Mapping[str, Any]], aborted: threading.Event
    ) -> Mapping[str, Answer]:
        generators = {name: body for name, body in bodies.items() if not name.startswith("rank")}
        if generators:
            return super().__call__(kind, generators, aborted)
        self.calls.append((kind, {name: dict(body) for name, body in bodies.items()}))
        return {name: self._answer(kind, name) for name in bodies}

    def _answer(self, kind: str, name: str) -> Answer:
        if kind == "open":
            return Answer(name=name, meets_at=f"[::1]:{name[-1]}")
        if kind == "start" and name in self.ahead:
            return Answer(name=name, superseded=True)
        if kind == "describe":
            stripe = TensorList(names=[f"of {name}"], dtype_names=["float32"], shapes=[[3]])
            return Answer(name=name, stripe=stripe)
        return Answer(name=name, sent_bytes=100 if kind == "finish" else 0)


class StripedTransport(FakeTransport):
    def send(self, tensors: Tensors) -> int:
        self.client.start_weight_update()
        told = {"names": [name for name, _ in tensors], "dtype_names": ["float32"], "shapes": [[1]], "delta": True}
        self.client.update_weights(told)
        self.client.finish_weight_update()
        return 7


def test_the_other_senders_get_each_call_and_generators_are_told_of_all_stripes() -> None:
    call = Senders()
    epoch = Epoch(3, {"a": 1}, call, senders=["rank-1", "rank-2"])
    epoch.open(StripedTransport)
    measured = epoch.update(5, [("w", torch.zeros(1))])
    assert measured.bytes == 7 + 2 * 100
    both = "rank-1", "rank-2"
    tensors = {"names": ["w", "of rank-1", "of rank-2"], "dtype_names": ["float32"] * 3, "shapes": [[1], [3], [3]]}
    assert call.calls == [
        ("open", {name: {"world_size": 4, "epoch": 3} for name in both}),
        ("open", {"a": INFO | {"meet_at": ["[::1]:1", "[::1]:2"], "rank_offset": 1, "epoch": 3}}),
        ("start", {name: {"version": 5, "epoch": 3} for name in both}),
        ("describe", {name: {"epoch": 3} for name in both}),
        ("start", {"a": {"epoch": 3}}),
        ("update", {"a": tensors | {"delta": True, "stripes": [1, 1, 1], "epoch": 3}}),
        ("update", {name: {"delta": True, "epoch": 3} for name in both}),
        ("finish", {name: {"epoch": 3} for name in both}),
        ("finish", {"a": {"version": 5, "epoch": 3}}),
    ]


def test_a_version_that_a_sender_holds_no_longer_leaves_the_epoch_as_it_is() -> None:
    call = Senders()
    epoch = Epoch(1, {"a": 1}, call, senders=["rank-1", "rank-2"])
    epoch.open(StripedTransport)
    call.ahead, call.calls = {"rank-2"}, []
    with pytest.raises(SupersededError):
        epoch.update(5, [("w", torch.zeros(1))])
    assert [kind for kind, bodies in call.calls if "a" in bodies] == [], "no generator was bothered"
    assert epoch.failure is None
    call.ahead = set()
    assert epoch.update(6, [("w", torch.zeros(1))]).bytes == 207
