"""The curriculum: each task is drawn at its share of turns, nothing stalls, and nothing is left to chance."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.errors import RecipeError
from actors.replay.buffer import Buffer
from actors.replay.curriculum import MOST_FOLLOWED, Curriculum, credit_at_first
from actors.replay.limits import Reason
from actors.transport.codec import Message, decode, encode
from tests.unit.actors.replay.buffer_world import Sums, World

KEYS = [f"t{number}" for number in range(200)]
RATES = st.floats(0, 1)
FLOORS = st.floats(0.02, 1, exclude_max=True)


def solved(rate: float, floor: float = 0.1, key: str = "t") -> Curriculum:
    curriculum = Curriculum(floor)
    curriculum.verified(key, rate)
    return curriculum


def drawn(curriculum: Curriculum, key: str, turns: int) -> int:
    """How many of its turns a task takes."""
    count = 0
    for _ in range(turns):
        due = curriculum.is_due(key)
        count += due
        (curriculum.drawn if due else curriculum.passed_over)(key)
    return count


@given(rate=RATES, floor=FLOORS, turns=st.integers(1, 300), key=st.sampled_from(KEYS))
def test_a_task_takes_its_share_of_turns_up_to_one(rate: float, floor: float, turns: int, key: str) -> None:
    keep = max(floor, 4 * rate * (1 - rate))
    assert drawn(solved(rate, floor, key), key, turns) == pytest.approx(turns * keep, abs=1 + 1e-9)


@given(rates=st.lists(RATES, min_size=1, max_size=5), floor=st.sampled_from([0.03, 0.1, 0.4, 0.9]))
def test_no_task_waits_longer_than_the_floor_says(rates: list[float], floor: float) -> None:
    curriculum = Curriculum(floor)
    for rate in rates:
        curriculum.verified("t", rate)
        assert drawn(curriculum, "t", int(1 / floor) + 2) >= 1


def test_tasks_of_one_solve_rate_are_spread_over_the_passes() -> None:
    curriculum = Curriculum(0.1)
    for key in KEYS:
        curriculum.verified(key, 1.0)
    passes = [sum(drawn(curriculum, key, 1) for key in KEYS) for _ in range(10)]
    assert sum(passes) == pytest.approx(len(KEYS), abs=len(KEYS) // 20)
    assert max(passes) < len(KEYS) // 4
    assert all(0 <= credit_at_first(key) < 1 for key in KEYS)


def test_a_task_that_was_never_verified_is_always_drawn() -> None:
    assert drawn(Curriculum(0.1), "t", 50) == 50


def test_a_group_counts_half_after_each_half_life_of_further_ones() -> None:
    curriculum = Curriculum(0.1, half_life=2)
    for accuracy in (1.0, 0.0, 0.0):
        curriculum.verified("t", accuracy)
    weights = [0.5, 0.5**0.5, 1.0]
    assert curriculum.standings["t"].solve_rate == pytest.approx(weights[0] / sum(weights))


def test_it_counts_the_tasks_by_how_often_they_are_solved() -> None:
    curriculum = Curriculum(0.1)
    for key, accuracy in (("a", 0.0), ("b", 1.0), ("c", 0.5), ("b", 0.9), ("b", 0.9)):
        curriculum.verified(key, accuracy)
    assert +curriculum.bands == {"never": 1, "mostly": 1, "sometimes": 1}


def test_without_a_curriculum_nothing_is_kept_and_everything_is_drawn() -> None:
    curriculum = solved(1.0, floor=1.0)
    assert curriculum.state() == {}
    assert drawn(curriculum, "t", 10) == 10


@given(turns=st.lists(st.tuples(st.sampled_from(KEYS[:4]), st.none() | RATES), max_size=40), cut=st.integers(0, 40))
def test_it_goes_on_alike_after_a_checkpoint(turns: list[tuple[str, float | None]], cut: int) -> None:
    def carry_out(curriculum: Curriculum, turns: list[tuple[str, float | None]]) -> None:
        for key, accuracy in turns:
            if accuracy is None:
                drawn(curriculum, key, 1)
            else:
                curriculum.verified(key, accuracy)

    whole, first, second = Curriculum(0.2), Curriculum(0.2), Curriculum(0.2)
    carry_out(whole, turns)
    carry_out(first, turns[:cut])
    second.restore(json.loads(json.dumps(first.state())))
    carry_out(second, turns[cut:])
    assert second == whole


def test_what_it_keeps_is_bounded_and_fits_into_a_message() -> None:
    curriculum = Curriculum(0.1)
    for number in range(MOST_FOLLOWED):
        curriculum.verified(f"{number:032x}", number / MOST_FOLLOWED)
    assert not curriculum.verified("one more", 1.0)
    assert curriculum.verified("0" * 32, 1.0), "those that are followed still are"
    assert drawn(curriculum, "one more", 10) == 10
    frames = encode(Message("reply", 1, {"snapshot": curriculum.state()}))
    assert len(decode(frames, 2**26).body["snapshot"]) == MOST_FOLLOWED


# -------------------------------------------------------------------- in the replay


class Epochs(Sums):
    """So many problems, which come again and again; one task cannot be made."""

    def __init__(self, problems: int, broken: int = -1) -> None:
        self.problems, self.broken = problems, broken

    def train(self, index: int) -> Mapping[str, Any]:
        if index == self.broken:
            raise RecipeError("there is none")
        return {**super().train(index), "key": f"t{index % self.problems}"}


def world_of(problems: int, floor: float, broken: int = -1) -> World:
    world = World(max_staleness=10_000, curriculum_floor=floor)
    world.buffer.tasks = Epochs(problems, broken)
    return world


def sample(world: World, tasks: int, accuracies: Callable[[str], list[float]], capacity: int = 1) -> Counter[str]:
    """Generate and verify so many tasks; how often each came."""
    found = Counter[str]()
    while found.total() < tasks:
        for task in world.lease(capacity):
            found[task["key"]] += 1
            world.submit(task)
            world.score(accuracies(task["key"]))
    return found


@pytest.mark.parametrize("capacity", [1, 7])
def test_what_is_always_solved_is_sampled_as_seldom_as_the_floor_says(capacity: int) -> None:
    world = world_of(problems=2, floor=0.1, broken=7)
    found = sample(world, 440, lambda key: [1.0, 1.0] if key == "t0" else [1.0, 0.0], capacity)
    assert found["t0"] / found["t1"] == pytest.approx(0.1, abs=0.02)
    tasks = world.buffer.ledger.tasks
    assert set(tasks.passed_over) == {"always"}
    assert tasks.cursor == world.buffer.ledger.issued + tasks.passed_over.total()
    assert world.buffer.ledger.dropped[Reason.MALFORMED] == 1, "what cannot be made is told, not passed over"


def test_nobody_waits_long_for_a_task_where_all_are_solved() -> None:
    world = world_of(problems=500, floor=0.01)
    curriculum = world.buffer.ledger.tasks.curriculum
    for number in range(500):
        curriculum.verified(f"t{number}", 1.0)
        curriculum.standings[f"t{number}"].credit = 0.0  # what chance would hardly make
    before = world.buffer.ledger.tasks.cursor
    (task,) = world.lease()
    assert world.buffer.ledger.tasks.cursor - before == curriculum.most_in_a_row + 1 == task["task"] + 1 == 1001


def test_a_verification_that_broke_says_nothing_of_the_task() -> None:
    world = world_of(problems=1, floor=0.1)
    (task,) = world.lease()
    world.submit(task)
    world.score(None)
    assert not world.buffer.ledger.tasks.curriculum.standings


def test_a_run_that_resumes_from_a_checkpoint_draws_as_if_nothing_had_happened() -> None:
    def accuracies(key: str) -> list[float]:
        return [1.0, float(int(key[1:]) % 3 == 0)]

    worlds = [world_of(problems=9, floor=0.2) for _ in range(2)]
    for world in worlds:
        sample(world, 60, accuracies)
        version = 0
        while world.say("take_batch", "learner", version=version):
            world.say("trained", "learner", version=version, statistics={}, staleness={}, step_seconds=1.0)
            version += 1
    snapshot = worlds[0].say("snapshot", "learner", version=version)["snapshot"]
    worlds[0].buffer = Buffer(worlds[0].buffer.ledger.limits, 2, Epochs(9), json.loads(json.dumps(snapshot)))
    assert sample(worlds[0], 60, accuracies) == sample(worlds[1], 60, accuracies)
    first, second = (world.buffer.ledger.tasks for world in worlds)
    assert (first.cursor, first.curriculum, first.passed_over) == (second.cursor, second.curriculum, second.passed_over)
