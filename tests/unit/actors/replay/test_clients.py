"""Clients of a replay in shards, against shards of a few lines."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import Any

import numpy as np
import pytest

from actors.config.network import NetworkConfig
from actors.deadline import until
from actors.errors import PeerTimeoutError
from actors.membership import Report
from actors.replay.clients import ShardedClient, connect
from actors.transport.address import joined, resolve
from actors.transport.client import Client, Heartbeat
from actors.transport.codec import Message, decode, encode
from actors.transport.lifeline import Lifeline
from actors.transport.sockets import open_router

SECONDS = 30.0


class FakeShard:
    """Answers every request with what `answer` makes of its kind, and keeps what it was asked, and under which number.
    Its first answers are of the kinds in `kinds_of_reply`."""

    def __init__(self, number: int, port: int = 0) -> None:
        self.number = number
        self.asked: list[tuple[str, Mapping[str, Any]]] = []
        self.numbers: list[int] = []
        self.arrays: list[list[str]] = []
        self.kinds_of_reply: list[str] = []
        self.answer: Callable[[str], Mapping[str, Any] | None] = lambda _: {}
        self._router = open_router(resolve(NetworkConfig(), in_cluster=False), port, 2**20, seconds=10.0)
        self.endpoint = self._router.endpoint
        self._stopping, self._running = threading.Event(), threading.Event()
        self._running.set()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._stopping.is_set():
            there_is_one = self._running.wait(0.02) and self._router.poll(0.02)
            if there_is_one and self._running.is_set() and (received := self._router.receive()):
                identity, frames = received
                message = decode(frames, 2**20)
                self.asked.append((message.kind, message.body))
                self.numbers.append(message.id)
                self.arrays.append(list(message.arrays))
                if (body := self.answer(message.kind)) is not None:
                    arrays = {"0.tokens": np.full(2, self.number, np.int32)} if message.kind == "take_batch" else {}
                    kind = self.kinds_of_reply.pop(0) if self.kinds_of_reply else "reply"
                    self._router.send(identity, encode(Message(kind, message.id, body, arrays)))

    def suspend(self) -> None:
        self._running.clear()

    def go_on(self) -> None:
        self._running.set()

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.asked]

    def close(self) -> None:
        self._stopping.set()
        self._thread.join(10)
        self._router.close()


@pytest.fixture
def shards() -> Iterator[list[FakeShard]]:
    made = [FakeShard(0), FakeShard(1)]
    yield made
    for shard in made:
        shard.close()


@pytest.fixture
def client(shards: list[FakeShard]) -> Iterator[ShardedClient]:
    made = connect(joined(shard.endpoint for shard in shards), "generator-1", "generator", 60.0)
    assert isinstance(made, ShardedClient)
    yield made
    made.close()


def tasks(number: int) -> Callable[[str], Mapping[str, Any]]:
    return lambda kind: {"tasks": [number]} if kind == "lease" else {"lost": []}


def test_one_replay_is_asked_as_ever(shards: list[FakeShard]) -> None:
    with closing(connect(shards[0].endpoint, "learner", "learner")) as plain:
        assert isinstance(plain, Client)


def test_leases_come_from_all_shards_in_turn(shards: list[FakeShard], client: ShardedClient) -> None:
    for shard in shards:
        shard.answer = tasks(shard.number)
    found = [
        reply.body["tasks"][0] for _ in range(10) if (reply := client.poll("lease", {"version": 0, "capacity": 1}))
    ]
    assert sorted(found) == [0] * 5 + [1] * 5


def test_a_shard_without_work_hides_nobody_elses(shards: list[FakeShard], client: ShardedClient) -> None:
    shards[1].answer = tasks(1)
    for _ in range(4):
        reply = client.poll("lease", {"version": 0, "capacity": 1})
        assert reply is not None and reply.body["tasks"] == [1]


def test_a_suspended_shard_holds_up_no_lease_of_the_others_and_its_late_answer_is_not_lost(
    shards: list[FakeShard], client: ShardedClient
) -> None:
    """It answers nothing, and its machine confirms all that it is sent, until it continues."""
    for shard in shards:
        shard.answer = tasks(shard.number)
        client.request("renew", {"purpose": "train", "group_ids": [shard.number]})
    shards[1].suspend()
    found = [client.poll("lease", {"version": 0, "capacity": 1}) for _ in range(8)]
    assert [reply.body["tasks"] for reply in found if reply] == [[0]] * len(found)
    assert not client._shards[1].away, "it was not waited for until it is given up"
    with pytest.raises(PeerTimeoutError, match="away"):
        client.request("renew", {"purpose": "train", "group_ids": [1]})
    shards[1].go_on()
    answered: list[list[int]] = []

    def from_both() -> bool:
        reply = client.poll("lease", {"version": 0, "capacity": 1})
        answered.append(reply.body["tasks"] if reply else [])
        return [1] in answered

    assert until(from_both, SECONDS)
    assert shards[1].kinds().count("lease") == 1, "what it was asked while it stood still is what it has answered"


def test_a_dead_shard_stops_neither_leases_nor_submissions_at_the_living_one(
    shards: list[FakeShard], client: ShardedClient
) -> None:
    for shard in shards:
        shard.answer = tasks(shard.number)
        client.request("verdict", {"purpose": "train", "group_id": shard.number})  # they are connected
    shards[1].close()
    lost = threading.Thread(target=submit, args=(client, 1), daemon=True)
    lost.start()  # which waits for the shard, with all the patience that there is
    start = time.monotonic()
    for _ in range(20):
        reply = client.poll("lease", {"version": 0, "capacity": 1})
        assert reply is None or reply.body["tasks"] == [0]
        submit(client, 2)
    client.request("renew", {"purpose": "train", "group_ids": [2]})
    assert time.monotonic() - start < 10.0
    assert shards[0].kinds().count("group_arrived") == 20
    with pytest.raises(PeerTimeoutError):
        client.request("renew", {"purpose": "train", "group_ids": [1]})
    said = {"teacher_logprobs": np.full(2, -1, np.float32)}
    client.request("verdict", {"purpose": "train", "group_id": 1}, said)
    assert lost.is_alive()
    port = int(shards[1].endpoint.rpartition(":")[2])
    shards[1] = FakeShard(1, port)
    lost.join(SECONDS)
    assert until(lambda: {"group_arrived", "verdict"} <= {*shards[1].kinds()}, SECONDS), "what was for it has waited"
    verdict = shards[1].kinds().index("verdict")
    assert shards[1].arrays[verdict] == ["teacher_logprobs"], "and all of it"


def submit(client: ShardedClient, group_id: int) -> None:
    client.request("group_arrived", {"purpose": "train", "group_id": group_id})


def test_a_share_that_has_come_is_not_fetched_again(shards: list[FakeShard], client: ShardedClient) -> None:
    shards[0].answer = lambda _: {"groups": ["a"]}
    assert client.poll("take_batch", {"version": 3}, 0.0) is None
    shards[1].answer = lambda _: {"groups": ["b"]}
    batch = client.poll("take_batch", {"version": 3}, 0.0)
    assert batch is not None and batch.body == {"groups": ["a", "b"]}
    assert [(name, int(a[0])) for name, a in sorted(batch.arrays.items())] == [("0.tokens", 0), ("1.tokens", 1)]
    assert shards[0].kinds() == ["take_batch"]
    assert client.poll("take_batch", {"version": 3}, 0.0) is not None, "asked again it is the same"


def test_every_shard_hears_of_a_commit_and_the_first_of_what_is_said_once(
    shards: list[FakeShard], client: ShardedClient
) -> None:
    client.request("committed", {"version": 3})
    client.request("notice", {"event": {}})
    client.request("evaluate", {})
    assert shards[0].kinds() == ["committed", "notice", "evaluate"]
    assert shards[1].kinds() == ["committed"]


def test_the_others_say_of_a_step_before_the_first_is_told(shards: list[FakeShard], client: ShardedClient) -> None:
    shards[1].answer = lambda _: {"tally": {"groups": 1}}
    client.request("trained", {"version": 3})
    (_, told) = shards[0].asked[0]
    assert told["tallies"] == [{"groups": 1}]


def test_every_shard_hears_that_a_process_is_alive(shards: list[FakeShard]) -> None:
    shards[0].answer = lambda _: {"alive": {"generator": ["a", "b"]}}
    shards[1].answer = lambda _: {"alive": {"generator": ["b"]}}  # it has come back just now
    line = Lifeline(joined(shard.endpoint for shard in shards))
    with closing(Heartbeat(line, "learner", "learner", 0.2, Report)) as heart:
        assert until(lambda: all(shard.asked for shard in shards), SECONDS)
        assert until(lambda: heart.alive("generator") == {"a", "b"}, SECONDS)
        shards[0].answer = lambda _: None
        assert until(lambda: line.shards[0].away, SECONDS)
        assert heart.alive("generator") == {"b"}, "what the dead have said last counts for nothing"
