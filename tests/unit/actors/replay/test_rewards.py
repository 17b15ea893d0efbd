"""What the verdicts on training groups say of a step, and what they are the first of the run to show."""

from typing import Any

import pytest

from actors.events import FirstSeen
from actors.replay.rewards import RewardStatistics, band
from tests.unit.actors.replay.buffer_world import World


@pytest.mark.parametrize(
    ("accuracy", "name"),
    [(0.0, "never"), (0.25, "rarely"), (0.5, "sometimes"), (0.75, "mostly"), (0.99, "mostly"), (1.0, "always")],
)
def test_how_often_a_task_is_solved_is_a_word(accuracy: float, name: str) -> None:
    assert band(accuracy) == name


def test_each_observation_is_a_mean_over_the_completions_that_have_it() -> None:
    rewards = RewardStatistics()
    rewards.add("a", (1.0, 0.0), {"format_rate": (1.0, 2), "reflection_words": (6.0, 1)}, 0.5, 40)
    rewards.add("a", (1.0, 1.0), {"format_rate": (2.0, 2), "reflection_words": (0.0, 2)}, 1.0, 20)
    said = rewards.step(0)
    assert said is not None
    assert (said["format_rate"], said["reflection_words"]) == (0.75, 2.0)
    shares = {name: said[f"difficulty/{name}"] for name in ("never", "rarely", "sometimes", "mostly", "always")}
    assert shares == {"never": 0, "rarely": 0, "sometimes": 0.5, "mostly": 0, "always": 0.5}
    assert rewards.step(1) == {}, "of nothing verified nothing is said"


def test_rewards_and_lengths_are_told_by_source_where_there_are_several() -> None:
    rewards = RewardStatistics()
    rewards.add("math", (1.0, 0.0), {}, 0.5, 30)
    assert not [name for name in rewards.step(0) or () if name.startswith("source_")], "it would be the same again"
    rewards.add("math", (1.0, 1.0), {}, 1.0, 10)
    rewards.add("code", (0.0, 0.0, 1.0), {}, 0.25, 60)
    rewards.add("code", (0.0,), {}, 0.0, 40)
    said = rewards.step(1)
    assert said is not None
    found = {name: value for name, value in said.items() if name.startswith("source_")}
    assert found == {
        "source_reward/math": 1.0,
        "source_reward/code": 0.25,
        "source_length/math": 5.0,
        "source_length/code": 25.0,
    }


def reflects(*reflections: list[tuple[int, int]]) -> list[dict[str, Any]]:
    return [{"reflections": each, "observed": {"reflection_words": float(len(each))}} for each in reflections]


def score(world: World, rewards: list[float], seen: list[dict[str, Any]]) -> list[FirstSeen]:
    """Have the next group verified; what that is the first to show."""
    (task,) = world.lease()
    world.submit(task)
    (group,) = world.say("lease_verification", "verifier", capacity=1)["groups"]
    scores = [
        {"status": "ok", "reward": reward, "parts": {"accuracy": reward}, **each}
        for reward, each in zip(rewards, seen, strict=True)
    ]
    world.say("verdict", "verifier", purpose="train", group_id=group["group_id"], scores=scores)
    return [event for event in world.last.events if isinstance(event, FirstSeen)]


def test_the_first_reflection_and_the_first_that_is_rewarded_are_told_once() -> None:
    world = World(groups_per_batch=8)
    assert score(world, [1.0, 0.0], reflects([], [])) == []
    (first,) = score(world, [1.0, 0.0], reflects([], [(0, 4)]))
    assert (first.what, first.step, first.sample.reward, first.sample.reflections) == ("reflection", 1, 0.0, [(0, 4)])
    assert score(world, [1.0, 1.0], reflects([(0, 4)], [])) == [], "no more reward than the others have"
    (rewarded,) = score(world, [1.0, 0.0], reflects([(0, 4)], []))
    assert (rewarded.what, rewarded.sample.reward) == ("rewarded reflection", 1.0)
    assert score(world, [1.0, 0.0], reflects([(0, 4)], [])) == []


def test_what_was_seen_outlives_the_replay() -> None:
    rewards = RewardStatistics()
    rewards.add("a", (1.0,), {"format_rate": (1.0, 1)}, 1.0, 7)
    assert rewards.new_firsts(["reflection"]) == ["reflection"]
    back = RewardStatistics.restored(rewards.state())
    assert back.new_firsts(["reflection"]) == []
    assert back.step(0) == rewards.step(0)


def test_groups_that_no_rule_decides_have_no_difficulty_and_all_else() -> None:
    rewards = RewardStatistics()
    rewards.add("math", (1.0, 0.0), {}, 0.5, 4)
    rewards.add("talk", (0.3, 0.1), {}, None, 4)
    back = RewardStatistics.restored(rewards.state())
    said = back.step(0)
    assert said is not None
    assert (said["difficulty/sometimes"], said["source_reward/talk"], said["mixed_groups"]) == (1.0, 0.2, 1.0)
    rewards = RewardStatistics()
    rewards.add("talk", (0.3, 0.1), {}, None, 4)
    assert not [name for name in rewards.step(0) or () if name.startswith("difficulty/")]


def test_the_curriculum_does_not_hear_of_what_no_rule_decides() -> None:
    world = World(groups_per_batch=8, curriculum_floor=0.1)
    score(world, [0.3, 0.1], [{"status": "unverified", "parts": {"format": 1.0}}] * 2)
    (verified,) = world.last.verified
    assert verified.accuracy is None and not world.buffer.state.tasks.curriculum.standings
    score(world, [1.0, 0.0], [{}, {}])
    assert len(world.buffer.state.tasks.curriculum.standings) == 1
