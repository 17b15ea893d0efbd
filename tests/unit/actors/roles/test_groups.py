"""What a generator makes of a leased task, whatever the task and the engine are like."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from actors.config.roles import SamplingConfig
from actors.engines.protocol import RequestRejectedError, SampledCompletion
from actors.replay.payload import Payload
from actors.roles.groups import payload_of
from tests.unit.actors.roles.scripted import GOOD, Replay, completion, lease, worked


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
    shapes = [(prompt + len(s.tokens) - 1, 3 * 2) for s in sampled]
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


def test_a_group_of_which_nobody_has_read_a_completion_to_its_end_says_nothing() -> None:
    full, continued = completion(((3, 3),)), completion(((3, 2), (4, 3)))
    sampled = [full, *routes(3, [continued])]
    arrived = Payload.of(payload_of([7, 8, 9], sampled, replayed=True).arrays(), group_size=2)
    assert arrived.routed_experts is None


@pytest.mark.parametrize("wrong", [(5, 6), (7, 6)])
def test_an_engine_that_says_it_of_other_tokens_has_its_group_rejected(wrong: tuple[int, ...]) -> None:
    answer = replace(completion(((0, 3),)), routed_experts=np.zeros(wrong, np.uint8))
    replay = Replay()
    worked(answer, lease(), replay, "learner.router_replay=true")
    ((kind, body),) = replay.told
    assert (kind, body["reason"]) == ("group_rejected", "malformed")
    assert "does not say of every token" in body["detail"]


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
