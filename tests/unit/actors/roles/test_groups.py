"""What a generator makes of a leased task, whatever the task and the engine are like."""

import asyncio
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.config.loading import load
from actors.config.recipe import Recipe
from actors.config.roles import SamplingConfig
from actors.engines.protocol import RequestRejectedError, SampledCompletion
from actors.engines.synthetic import SyntheticEngine
from actors.errors import ProtocolError
from actors.replay.payload import Payload
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

    async def generate(self, _: list[int], samples: int, sampling: SamplingConfig) -> list[SampledCompletion]:
        self.asked.append(sampling)
        if isinstance(self.answer, Exception):
            raise self.answer
        return [self.answer] * samples

    async def ping(self) -> None:
        self.pings += 1
        if isinstance(self.answer, OSError):
            raise self.answer


class Replay:
    """Takes requests; refuses those whose kind is named."""

    def __init__(self, refuses: str = "") -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.refuses = refuses

    async def __call__(self, kind: str, body: dict[str, Any], arrays: Mapping[str, Any] | None = None) -> None:
        assert (arrays is not None) == (kind == "group_arrived")
        self.told.append((kind, body))
        if kind == self.refuses:
            raise ProtocolError(f"the replay refused {kind}: token 70000 of a model with 64 token ids")


def lease(prompt: str = "1+1=", purpose: str = "train") -> dict[str, Any]:
    return {"purpose": purpose, "group_id": 7, "key": "k", "messages": [["user", prompt]], "samples": 2}


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


def test_leases_are_renewed_while_the_engine_answers() -> None:
    tree = recipe("replay.lease_seconds=0.03")
    replay, engine = Replay(), ScriptedEngine(GOOD)

    async def generate(*_: Any) -> list[SampledCompletion]:
        while not any(kind == "renew" for kind, _ in replay.told):
            await asyncio.sleep(0.001)
        return [GOOD, GOOD]

    async def scenario() -> None:
        engine.generate = generate  # type: ignore[assignment, method-assign]
        groups = Groups(tree, Renderer(tree.tasks, Characters()), engine, replay)
        renewing = asyncio.create_task(groups.renew())
        await asyncio.wait_for(groups.work(lease()), 30)
        renewing.cancel()

    asyncio.run(scenario())
    assert ("renew", {"purpose": "train", "group_ids": [7]}) in replay.told
    assert engine.pings > 0


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
        renewing, first = asyncio.create_task(groups.renew()), groups.answered
        while groups.answered == first:
            await asyncio.sleep(0.001)
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
