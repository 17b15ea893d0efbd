"""Which groups are scored together."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from actors.roles.scorer.batching import AskedScores, EncodedGroup, ScoringQueue


def group(prompt: int, *answers: int) -> EncodedGroup:
    tokens = tuple(np.zeros(length, np.int32) for length in answers)
    return EncodedGroup(np.zeros(prompt, np.int32), tokens, tuple(range(len(answers))))


def asked(number: int, size: int, due: float = 100.0) -> AskedScores:
    return AskedScores(b"v", number, due, group(1, size - 1))


def numbers(found: list[AskedScores]) -> list[int]:
    return [each.number for each in found]


def test_a_prompt_counts_once() -> None:
    assert group(5, 2, 3, 4).size == 14


def test_groups_of_all_who_ask_are_scored_together_up_to_the_bound() -> None:
    queue = ScoringQueue(10)
    for number, size in enumerate((4, 6, 1, 10, 3)):
        queue.add(asked(number, size))
    assert [numbers(queue.take()) for _ in range(4)] == [[0, 1], [2], [3], [4]]
    assert queue.take() == [] and len(queue) == 0


def test_a_group_over_the_bound_is_a_batch_of_its_own_and_is_not_passed_over() -> None:
    queue = ScoringQueue(10)
    for number, size in enumerate((3, 40, 3)):
        queue.add(asked(number, size))
    assert [numbers(queue.take()) for _ in range(3)] == [[0], [1], [2]]


def test_what_nobody_waits_for_is_not_scored() -> None:
    queue = ScoringQueue(100)
    for number, due in enumerate((5.0, 9.0, 7.0)):
        queue.add(asked(number, 4, due))
    assert numbers(queue.take_late(7.0)) == [0, 2]
    assert queue.take_late(7.0) == []
    assert numbers(queue.take()) == [1]


@given(st.lists(st.integers(2, 30), max_size=40), st.integers(1, 40))
def test_every_group_is_in_one_batch_in_the_order_of_asking(sizes: list[int], most: int) -> None:
    queue = ScoringQueue(most)
    for number, size in enumerate(sizes):
        queue.add(asked(number, size))
    batches = []
    while batch := queue.take():
        batches.append(batch)
    assert [n for batch in batches for n in numbers(batch)] == list(range(len(sizes)))
    assert all(len(b) == 1 or sum(a.group.size for a in b) <= most for b in batches)
    fits = [sum(a.group.size for a in batch) + after[0].group.size > most for batch, after in pairwise(batches)]
    assert all(fits), "no batch ends before it is full"
