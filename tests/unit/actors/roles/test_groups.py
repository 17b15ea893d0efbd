"""What a generator makes of a leased task, whatever the task and the engine are like."""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.config.loading import load
from actors.config.recipe import Recipe
from actors.config.roles import SamplingConfig
from actors.engines.protocol import Job, RequestRejectedError, SampledCompletion
from actors.engines.synthetic import SyntheticEngine
from actors.errors import ProtocolError
from actors.replay.payload import Payload
from actors.replay.progress import NOTHING, Partial, decode_progress
from actors.roles.groups import Groups, payload_of
from actors.tasks.templates import Renderer

QUICKSTART = Path(__file__).parents[4] / "recipes" / "quickstart.yaml"


def completion(spans: tuple[tuple[int, int], ...], truncated: bool = False, **changes: Any) -> SampledCompletion:
    length = sum(tokens for _, tokens in spans)
    fields = {"tokens": np.arange(length, dtype=np.int32), "logprobs": np.full(length, -0.5, np.float32)} | changes
    return SampledCompletion(fields["tokens"], fields["logprobs"], spans, truncated, fields.get("text", "text"))


def test_a_group_travels_whole_and_every_token_keeps_its_version() -> None:
    sampled = [completion(((3, 2), (4, 1))), completion(((4, 5),), truncated=True)]
    arrived = Payload.of(payload_of([7, 8, 9], sampled).arrays(), group_size=2)
    assert arrived.prompt.tolist() == [7, 8, 9]
    assert arrived.lengths.tolist() == [3, 5]
    assert arrived.truncated.tolist() == [0, 1]
    assert arrived.token_versions().tolist() == [3, 3, 4, 4, 4, 4, 4, 4]
    assert (arrived.oldest, arrived.newest) == (3, 4)


def routes(prompt: int, sampled: list[SampledCompletion], seed: int = 0) -> list[SampledCompletion]:
    """As an engine says where the tokens of each went: 3 layers, 2 experts; of the prompt, differently each time."""
    random = np.random.default_rng(seed)
    shapes = [(prompt + len(s.tokens) - 1, 3, 2) for s in sampled]
    return [
        replace(s, routed_experts=random.integers(0, 256, shape).astype(np.uint8))
        for s, shape in zip(sampled, shapes, strict=True)
    ]


def test_a_group_says_where_its_tokens_went_where_that_is_replayed() -> None:
    sampled = routes(3, [completion(((3, 2), (4, 1))), completion(((4, 5),))])
    first, second = (s.routed_experts for s in sampled)
    assert first is not None and second is not None
    arrived = Payload.of(payload_of([7, 8, 9], sampled, replayed=True).arrays(), group_size=2)
    found = arrived.experts_by_token()
    assert found is not None and found.tolist() == np.concatenate([first, second[3:]]).reshape(9, 6).tolist()
    assert payload_of([7, 8, 9], sampled).routed_experts is None


def test_a_group_of_which_a_completion_ended_elsewhere_says_nothing() -> None:
    """Progress that is handed on has tokens alone; an engine that goes on reads them again, and says where they go."""
    ended, continued = completion(((3, 3),)), completion(((3, 2), (4, 3)))
    sampled = [ended, *routes(3, [continued])]
    arrived = Payload.of(payload_of([7, 8, 9], sampled, replayed=True).arrays(), group_size=2)
    assert arrived.routed_experts is None


@pytest.mark.parametrize("wrong", [(5, 3, 2), (7, 3, 2)])
def test_an_engine_that_says_it_of_other_tokens_has_its_group_rejected(wrong: tuple[int, ...]) -> None:
    answer = replace(completion(((0, 3),)), routed_experts=np.zeros(wrong, np.uint8))
    replay = Replay()
    worked(answer, lease(), replay, "learner.router_replay=true")
    ((kind, body),) = replay.told
    assert (kind, body["reason"]) == ("group_rejected", "malformed")
    assert "does not say of every token" in body["detail"]


class Characters:
    """A tokenizer whose token ids are code points; it cannot encode half of an emoji, as no tokenizer can."""

    chat_template = None

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:  # noqa: ARG002 - a fake
        text.encode()
        return [ord(character) for character in text]

    def apply_chat_template(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("the template is raw")


class ScriptedEngine(SyntheticEngine):
    """Answers with whatever it is given; an exception is raised."""

    def __init__(self, answer: SampledCompletion | Exception) -> None:
        self.answer, self.pings = answer, 0
        self.asked: list[SamplingConfig] = []
        self.jobs: list[Job | None] = []
        self.version = 0

    async def generate(
        self, _: list[int], samples: int, sampling: SamplingConfig, job: Job | None = None
    ) -> list[SampledCompletion]:
        self.asked.append(sampling)
        self.jobs.append(job)
        if isinstance(self.answer, Exception):
            raise self.answer
        return [self.answer] * samples

    async def ping(self) -> None:
        self.pings += 1
        if isinstance(self.answer, OSError):
            raise self.answer


class Replay:
    """Takes requests; refuses those whose kind is named. `lost` are the groups whose lease it has given to others.

    Attributes:
        told: kind and body of each request.
        known: what was reported of each completion, by group.
    """

    def __init__(self, refuses: str = "", lost: Sequence[int] = ()) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.refuses, self.lost = refuses, lost
        self.known: dict[int, list[Partial]] = {}

    async def __call__(
        self, kind: str, body: dict[str, Any], arrays: Mapping[str, Any] | None = None
    ) -> Mapping[str, Any]:
        assert (arrays is not None) == (kind in ("group_arrived", "progress"))
        self.told.append((kind, body))
        if kind == self.refuses:
            raise ProtocolError(f"the replay refused {kind}: token 70000 of a model with 64 token ids")
        if kind == "renew":
            return {"lost": [group_id for group_id in body["group_ids"] if group_id in self.lost]}
        if kind == "progress":
            assert arrays is not None
            parts, offsets = decode_progress(arrays, 2)
            before = self.known.get(body["group_id"], [NOTHING, NOTHING])
            assert offsets == [len(p) for p in before]
            self.known[body["group_id"]] = [old.plus(new) for old, new in zip(before, parts, strict=True)]
            return {"held": [len(p) for p in self.known[body["group_id"]]]}
        return {}

    def renewed(self) -> list[list[int]]:
        return [body["group_ids"] for kind, body in self.told if kind == "renew"]


def lease(prompt: str = "1+1=", purpose: str = "train") -> dict[str, Any]:
    return {"purpose": purpose, "group_id": 7, "task": 3, "key": "k", "messages": [["user", prompt]], "samples": 2}


def recipe(*changes: str) -> Recipe:
    return load(QUICKSTART, ["tasks.template=raw", "tasks.max_prompt_tokens=16", "cold_start=null", *changes])


def worked(
    answer: SampledCompletion | Exception, leased: dict[str, Any], replay: Replay, *changes: str
) -> ScriptedEngine:
    tree, engine = recipe(*changes), ScriptedEngine(answer)
    asyncio.run(Groups(tree, Renderer(tree.tasks, Characters()), engine, replay).work(leased))
    return engine


GOOD = completion(((0, 3),))


def test_a_group_is_submitted_with_prompt_and_texts() -> None:
    replay = Replay()
    worked(GOOD, lease(), replay)
    body = {"purpose": "train", "group_id": 7, "prompt": "1+1=", "texts": ["text", "text"]}
    assert replay.told == [("group_arrived", body)]


@pytest.mark.parametrize(
    ("answer", "prompt", "reason", "says"),
    [
        (GOOD, "1" * 17, "overlong", "17 tokens; tasks.max_prompt_tokens: 16"),
        (GOOD, "smile \ud83d", "malformed", "is no prompt: "),
        (RequestRejectedError("overlong", "the engine holds 9"), "1+1=", "overlong", "the engine holds 9"),
        (completion(((0, 2),), logprobs=np.array([-1, math.nan], np.float32)), "1+1=", "malformed", "not finite"),
        (completion(((0, 2),), logprobs=np.array([-1, -math.inf], np.float32)), "1+1=", "malformed", "not finite"),
        (completion(((0, 2),), logprobs=np.array([-1, 0.5], np.float32)), "1+1=", "malformed", "positive"),
        (completion(((0, 2),), tokens=np.array([3, -1], np.int32)), "1+1=", "malformed", "negative token"),
        (completion(((0, 2),), tokens=np.array([3], np.int32)), "1+1=", "malformed", "do not add up"),
        (completion(()), "1+1=", "malformed", "empty prompt, completion"),
    ],
)
def test_what_cannot_be_a_group_is_rejected_with_its_reason(
    answer: SampledCompletion | Exception, prompt: str, reason: str, says: str
) -> None:
    replay = Replay()
    worked(answer, lease(prompt), replay)
    ((kind, body),) = replay.told
    assert (kind, body["reason"], body["group_id"]) == ("group_rejected", reason, 7)
    assert says in body["detail"]


def test_a_group_that_the_replay_refuses_is_rejected_and_a_refused_rejection_ends_nothing() -> None:
    replay = Replay(refuses="group_arrived")
    worked(GOOD, lease(), replay)
    assert [kind for kind, _ in replay.told] == ["group_arrived", "group_rejected"]
    assert "token 70000" in replay.told[1][1]["detail"]
    worked(GOOD, lease("1" * 17), Replay(refuses="group_rejected"))


def test_a_group_larger_than_a_message_is_rejected_by_the_key_that_bounds_it() -> None:
    replay = Replay()
    worked(completion(((0, 1),), text="x" * 2**15), lease(), replay, "replay.max_message_bytes=65536")
    assert "replay.max_message_bytes" in replay.told[0][1]["detail"]


def test_an_engine_that_is_broken_ends_its_generator() -> None:
    replay = Replay()
    with pytest.raises(RuntimeError, match="the core is dead"):
        worked(RuntimeError("the core is dead"), lease(), replay)
    assert replay.told == []


def test_evaluations_have_their_own_sampling_and_the_length_of_training() -> None:
    longest = ["generators.sampling.max_tokens=40", "evaluation.sampling={temperature: 0.3}"]
    (asked,) = worked(GOOD, lease(purpose="evaluate"), Replay(), *longest).asked
    assert asked == SamplingConfig(temperature=0.3, top_p=0.95, max_tokens=40)
    (asked,) = worked(GOOD, lease(), Replay(), *longest).asked
    assert asked == SamplingConfig(max_tokens=40)


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


def test_a_group_that_is_stuck_makes_room_for_another_when_its_lease_is_over() -> None:
    replay = Replay()

    async def scenario(_: Groups, engine: GrowingEngine, work: list[asyncio.Task[None]]) -> None:
        engine.grown = {0: 1, 1: 1}
        while not work[1].done():
            await asyncio.sleep(0.01)
            engine.grown[0] += 1
        await work[1]
        assert not work[0].done()

    with_groups(replay, scenario, "replay.lease_seconds=0.5")
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


@pytest.mark.parametrize(("changes", "seeded"), [((), False), (("replay.max_staleness=0",), True),
                                                 (("generators.seeded=true",), True)])  # fmt: skip
def test_a_groups_seed_follows_from_run_purpose_task_and_version(changes: tuple[str, ...], seeded: bool) -> None:
    def seed(leased: dict[str, Any], *more: str) -> int | None:
        (job,) = worked(GOOD, leased, Replay(), *changes, *more).jobs
        assert job is not None
        return job.seed

    first = seed(lease())
    assert (first is not None) is seeded
    if seeded:
        assert seed(lease("2+2=") | {"group_id": 99}) == first, "group_ids depend on when tasks are leased"
        others = [seed(lease() | {"task": 4}), seed(lease(purpose="evaluate")), seed(lease(), "seed=5")]
        assert len({first, *others}) == 4


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
