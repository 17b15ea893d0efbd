"""A generator's leases: what renews them, what is reported of groups under way, and engines that stand still."""

import asyncio
import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from actors.config.roles import SamplingConfig
from actors.engines.protocol import Job, SampledCompletion
from actors.replay.progress import NOTHING, Partial
from actors.roles import groups as module
from actors.roles.groups import Groups
from actors.tasks.templates import Renderer
from tests.unit.actors.roles.scripted import GOOD, Characters, Replay, ScriptedEngine, lease, recipe


class GrowingEngine(ScriptedEngine):
    """Holds every group until it is told to finish; its completions have the tokens that `grown` says, by task."""

    def __init__(self) -> None:
        super().__init__(GOOD)
        self.grown: dict[int, int] = {}
        self.finish = asyncio.Event()

    async def generate(
        self, prompt: list[int], samples: int, sampling: SamplingConfig, job: Job | None = None
    ) -> list[SampledCompletion]:
        assert job is not None
        number = len(self.jobs)
        job.follow(
            lambda: {0: part(self.grown.get(number, 0)), 1: NOTHING}, lambda: {0: self.grown.get(number, 0), 1: 0}
        )
        answer = await super().generate(prompt, samples, sampling, job)
        await self.finish.wait()
        return answer


def part(length: int) -> Partial:
    return Partial(np.arange(length, dtype=np.int32), np.zeros(length, np.float32), ((0, length),) if length else ())


async def ticks(groups: Groups, count: int = 2) -> None:
    """Let leases be looked at that often."""
    async with asyncio.timeout(30):
        for _ in range(count):
            before = groups.answered
            while groups.answered == before:
                await asyncio.sleep(0.001)


def with_groups(
    replay: Replay, scenario: Callable[[Groups, GrowingEngine, list[asyncio.Task[None]]], Any], *changes: str
) -> None:
    """Run a scenario with two groups under way, 7 and 8, whose leases are looked at all the time."""
    tree = recipe("membership.heartbeat_seconds=0.01", *changes)

    async def run() -> None:
        engine = GrowingEngine()
        groups = Groups(tree, Renderer(tree.tasks, Characters()), engine, replay)
        renewing = asyncio.create_task(groups.renew())
        work = [asyncio.create_task(groups.work(lease() | {"group_id": group_id})) for group_id in (7, 8)]
        await ticks(groups)
        await asyncio.wait_for(scenario(groups, engine, work), 30)
        engine.finish.set()
        await asyncio.wait_for(asyncio.gather(*work, return_exceptions=True), 30)
        renewing.cancel()

    asyncio.run(run())


def test_a_lease_is_renewed_by_new_tokens_and_not_by_an_engine_that_answers() -> None:
    replay = Replay()

    async def scenario(groups: Groups, engine: GrowingEngine, _: Any) -> None:
        assert replay.renewed() == [], "nothing was sampled yet"
        engine.grown[0] = 1
        await ticks(groups)
        assert replay.renewed() == [[7, 8]], "one has a token, and the other waits for an engine that samples"
        engine.grown[1] = 1
        await ticks(groups)
        assert replay.renewed()[1:] == [[8]], "7 is stuck"
        await ticks(groups)
        assert len(replay.renewed()) == 2, "8 is stuck, too"
        assert engine.pings > 0

    with_groups(replay, scenario)


def test_work_on_a_group_that_somebody_else_has_by_now_is_given_up() -> None:
    replay = Replay(lost=[8])

    async def scenario(_: Groups, engine: GrowingEngine, work: list[asyncio.Task[None]]) -> None:
        engine.grown[0] = 1
        await work[1]
        assert not work[0].done()

    with_groups(replay, scenario)
    assert [body["group_id"] for kind, body in replay.told if kind == "group_arrived"] == [7]


def test_a_group_that_is_stuck_makes_room_for_another_when_its_lease_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    replay, now, reads = Replay(), [0.0], itertools.count()
    clock = SimpleNamespace(monotonic=lambda: now[0] + 1e-6 * next(reads))
    monkeypatch.setattr(module, "time", clock)

    async def scenario(groups: Groups, engine: GrowingEngine, work: list[asyncio.Task[None]]) -> None:
        engine.grown = {0: 1, 1: 1}
        await ticks(groups)
        for now[0] in range(100, 700, 100):
            assert not any(task.done() for task in work)
            engine.grown[0] += 1
            await ticks(groups)
        await work[1]
        assert not work[0].done()

    with_groups(replay, scenario, "replay.lease_seconds=599")
    assert [body["group_id"] for kind, body in replay.told if kind == "group_arrived"] == [7]


def test_progress_is_reported_every_so_many_tokens_and_when_it_is_handed_in() -> None:
    replay = Replay()

    async def scenario(groups: Groups, engine: GrowingEngine, _: Any) -> None:
        engine.grown[0] = 9
        await ticks(groups)
        assert replay.known == {}
        engine.grown[0] = 10
        await ticks(groups)
        assert [len(p) for p in replay.known[7]] == [10, 0]
        engine.grown[0] = engine.grown[1] = 15
        await ticks(groups)
        assert [len(p) for p in replay.known[7]] == [10, 0], "five tokens are not worth a report"
        await groups.hand_in()
        assert {group_id: [len(p) for p in known] for group_id, known in replay.known.items()} == {
            7: [15, 0],
            8: [15, 0],
        }
        assert replay.known[7][0].tokens.tolist() == list(range(15))

    with_groups(replay, scenario, "generators.progress_tokens=10")


def test_progress_that_the_replay_refuses_ends_nothing() -> None:
    replay = Replay(refuses="progress")

    async def scenario(groups: Groups, engine: GrowingEngine, work: list[asyncio.Task[None]]) -> None:
        engine.grown[0] = 10
        await ticks(groups)
        assert ("progress", {"purpose": "train", "group_id": 7}) in replay.told
        assert not any(task.done() for task in work)

    with_groups(replay, scenario, "generators.progress_tokens=10")


def test_an_engine_that_hangs_is_seen_by_when_it_answered_last() -> None:
    """Whether it holds groups or not: the controller judges a generator by it."""
    tree, engine = recipe("membership.heartbeat_seconds=0.01"), ScriptedEngine(GOOD)
    hangs, hung = asyncio.Event(), asyncio.Event()

    async def ping() -> None:
        if hangs.is_set():
            hung.set()
            await asyncio.sleep(60)

    async def scenario() -> None:
        engine.ping = ping  # type: ignore[method-assign]
        groups = Groups(tree, Renderer(tree.tasks, Characters()), engine, Replay())
        renewing = asyncio.create_task(groups.renew())
        await ticks(groups, 1)
        hangs.set()
        await asyncio.wait_for(hung.wait(), 30)
        last = groups.answered
        await asyncio.sleep(0.05)  # several pings' worth
        assert groups.answered == last
        renewing.cancel()

    asyncio.run(scenario())


def test_an_engine_that_died_beside_its_work_ends_the_generator() -> None:
    tree, engine = recipe("replay.lease_seconds=0.03"), ScriptedEngine(GOOD)

    async def generate(*_: Any) -> list[SampledCompletion]:
        engine.answer = OSError("the core is gone")
        await asyncio.sleep(60)
        return []

    async def scenario() -> None:
        engine.generate = generate  # type: ignore[assignment, method-assign]
        groups = Groups(tree, Renderer(tree.tasks, Characters()), engine, Replay())
        working = asyncio.create_task(groups.work(lease()))
        with pytest.raises(OSError, match="the core is gone"):
            await asyncio.wait_for(groups.renew(), 30)
        working.cancel()

    asyncio.run(scenario())
