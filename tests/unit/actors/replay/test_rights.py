"""Whose key is one role's alone sends what that role sends, and nothing else: to the replay and to the learner."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import torch

from actors.config.network import NetworkConfig
from actors.config.roles import WeightsConfig
from actors.deadline import until
from actors.errors import ForbiddenError, ProtocolError
from actors.membership import ROLES
from actors.observability import metrics
from actors.replay import messages as m
from actors.replay import rights
from actors.replay.board import Board
from actors.replay.buffer import Buffer
from actors.replay.limits import ReplayLimits
from actors.replay.service import ReplayService
from actors.transport import keys, sockets
from actors.transport.address import resolve
from actors.transport.client import Client
from actors.transport.codec import Message, decode, encode
from actors.transport.sockets import DealerSocket
from actors.weights.publisher import Publisher
from tests.unit.actors.replay.buffer_world import Sums

NODE = resolve(NetworkConfig(), in_cluster=False)


def request(kind: str, role: str, **body: Any) -> m.Request:
    """A request with no more than is looked at."""
    return m.REQUESTS[kind].model_construct(worker="w", role=role, **{"services": {}, "name": "w", **body})


def test_every_request_is_some_roles_and_a_key_for_no_role_may_send_all() -> None:
    for kind in m.REQUESTS:
        passed = 0
        for role in set(ROLES) - {"replay"}:
            rights.require(None, kind, request(kind, role))
            try:
                rights.require(role, kind, request(kind, role))
                passed += 1
            except ForbiddenError:
                pass
        assert passed, f"{kind} could be sent by nobody"


@pytest.mark.parametrize(
    "kind",
    ["trained", "committed", "take_batch", "take_payloads", "snapshot", "evaluate", "announce", "notice", "lease",
     "group_arrived", "group_rejected", "progress", "events"],
)  # fmt: skip
def test_a_verifiers_key_is_for_nothing_but_verdicts(kind: str) -> None:
    with pytest.raises(ForbiddenError, match=f"{kind} is no request of a verifier"):
        rights.require("verifier", kind, request(kind, "verifier"))
    with pytest.raises(ForbiddenError, match="the sender says that it is a learner"):
        rights.require("verifier", kind, request(kind, "learner"))


def test_nobody_says_where_the_weights_are_or_takes_others_off_the_list_by_the_way() -> None:
    rights.require("verifier", "heartbeat", request("heartbeat", "verifier"))
    rights.require("learner", "heartbeat", request("heartbeat", "learner", services={"weights": "tcp://1.2.3.4:5"}))
    with pytest.raises(ForbiddenError, match="service"):
        services = {"weights": "tcp://1.2.3.4:5"}
        rights.require("verifier", "heartbeat", request("heartbeat", "verifier", services=services))
    rights.require("verifier", "remove_member", request("remove_member", "verifier"))
    with pytest.raises(ForbiddenError, match="nobody else"):
        rights.require("verifier", "remove_member", request("remove_member", "verifier", name="learner"))


# -------------------------------------------------------------------- on real sockets


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Keys of a run, which the servers use that are opened first, and one more for verifiers and one for generators."""
    keys.create(tmp_path / "keys")
    for name in ("east.verifier", "east.generator"):
        keys.add(tmp_path / "keys", name)
    use(tmp_path / "keys", monkeypatch)
    yield tmp_path / "keys"
    sockets.use_keys(None)


def use(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(keys.FOLDER, str(folder))
    sockets.use_keys(keys.load())


@pytest.fixture
def replay(folder: Path) -> Iterator[ReplayService]:  # noqa: ARG001 - it makes the keys
    started = ReplayService(
        Buffer(ReplayLimits(max_staleness=0, groups_per_batch=1), 2, Sums()), Board(20.0), NODE, 2**20
    )
    started.start()
    yield started
    started.stop()


def test_a_verifier_can_neither_train_nor_commit_and_whoever_may_still_can(
    replay: ReplayService, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as open_:
        learner = open_.enter_context(closing(Client(replay.address, "learner", "learner")))
        use(folder / "east.verifier", monkeypatch)
        verifier = open_.enter_context(closing(Client(replay.address, "verifier-1", "verifier")))
        posing = open_.enter_context(closing(Client(replay.address, "learner", "learner")))
        before = metrics.FORBIDDEN._value.get(), metrics.MALFORMED._value.get()
        for client in (verifier, posing):
            for kind, body in (("committed", {"version": 1}), ("announce", {"service": "weights", "address": "x"})):
                with pytest.raises(ForbiddenError, match="verifier"):
                    client.request(kind, body)
        assert metrics.FORBIDDEN._value.get() == before[0] + 4
        assert metrics.MALFORMED._value.get() == before[1]
        assert verifier.request("lease_verification", {"capacity": 1}).body == {}
        with pytest.raises(ProtocolError) as refused:
            verifier.request("lease_verification", {"capacity": 0})
        assert not isinstance(refused.value, ForbiddenError)
        assert learner.request("committed", {"version": 0}).kind == "reply"
        assert learner.request("directory").body == {"services": {}}, "nothing was announced"


def test_a_verifier_cannot_register_for_weights(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = WeightsConfig(deadline_seconds=5)
    publisher = Publisher(config, NODE, torch.float32, alive=frozenset, timeout_seconds=60.0, on_sync=lambda _: None)
    before = metrics.FORBIDDEN._value.get()
    with closing(publisher), ExitStack() as open_:
        for role in ("verifier", "generator"):
            use(folder / f"east.{role}", monkeypatch)
            client = open_.enter_context(closing(DealerSocket(publisher.endpoint, 2**20)))
            client.send(encode(Message("register", 1, {"name": f"{role}-1", "workers": 1})))
            if role == "verifier":
                assert client.poll(60) and decode(client.receive(), 2**20).kind == "error"
        assert until(lambda: publisher.registered == {"generator-1"}, 60)
        client.send(encode(Message("register_sender", 2, {"name": "learner-rank-1"})))  # by a generator's key
        assert client.poll(60) and decode(client.receive(), 2**20).kind == "error"
    assert metrics.FORBIDDEN._value.get() == before + 2
