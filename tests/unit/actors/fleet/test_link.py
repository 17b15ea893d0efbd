"""The connection of a synthetic generator asks as that of a real one does, see test_clients.py of the replay."""

import asyncio
from collections.abc import Iterator

import pytest

from actors.errors import PeerTimeoutError
from actors.fleet.link import Link, ShardedLink
from actors.transport.address import joined
from actors.transport.lifeline import Lifeline
from tests.unit.actors.replay.test_clients import SECONDS, FakeShard, tasks

LEASE = {"version": 0, "capacity": 1}


@pytest.fixture
def shards() -> Iterator[list[FakeShard]]:
    made = [FakeShard(0), FakeShard(1)]
    yield made
    for shard in made:
        shard.close()


def test_a_suspended_shard_holds_up_no_lease_of_the_others_and_its_late_answer_is_not_lost(
    shards: list[FakeShard],
) -> None:
    async def play() -> None:
        link = ShardedLink(Lifeline(joined(shard.endpoint for shard in shards)), "generator-1", Link())
        for shard in shards:
            shard.answer = tasks(shard.number)
        shards[1].suspend()
        found = [(await link.any("lease", LEASE, 0.0, 10.0)).body["tasks"] for _ in range(6)]
        assert found == [[0]] * 6
        shards[1].go_on()
        async with asyncio.timeout(SECONDS):
            while (await link.any("lease", LEASE, 0.0, 10.0)).body["tasks"] != [1]:
                await asyncio.sleep(0.01)
        assert shards[1].kinds().count("lease") == 1
        link.close()

    asyncio.run(play())


def test_a_lease_that_was_given_up_goes_on_under_its_number(shards: list[FakeShard]) -> None:
    async def play() -> None:
        link = ShardedLink(Lifeline(shards[0].endpoint), "generator-1", Link())
        shards[0].answer = lambda kind: None if kind == "lease" else {"lost": []}
        with pytest.raises(PeerTimeoutError):
            await link.any("lease", LEASE, 0.0, 0.3)
        await link.request("renew", {"purpose": "train", "group_ids": [0]})
        shards[0].answer = tasks(0)
        for _ in range(2):
            assert (await link.any("lease", LEASE, 0.0, SECONDS)).body["tasks"] == [0]
        link.close()

    asyncio.run(play())
    by_kind: dict[str, list[int]] = {}
    for kind, number in zip(shards[0].kinds(), shards[0].numbers, strict=True):
        by_kind.setdefault(kind, []).append(number)
    (renewed,) = by_kind["renew"]
    first, *again, last = by_kind["lease"]
    assert set(again) == {first} and first < renewed < last
