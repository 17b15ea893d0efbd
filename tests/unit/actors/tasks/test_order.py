"""The endless orders: nothing lost, nothing twice, shares as asked."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.tasks.order import Mixture, Shuffle, apportion


@given(size=st.integers(1, 300), seed=st.integers(0, 2**32), epoch=st.integers(0, 2**60))
def test_every_epoch_of_a_shuffle_holds_every_index_once(size: int, seed: int, epoch: int) -> None:
    order = Shuffle(size, seed)
    assert sorted(order(epoch * size + position) for position in range(size)) == list(range(size))


def test_epochs_and_seeds_differ_and_repeat_exactly() -> None:
    first = [Shuffle(1000, 1)(position) for position in range(2000)]
    assert first == [Shuffle(1000, 1)(position) for position in range(2000)]
    assert first[:1000] != first[1000:]
    assert first != [Shuffle(1000, 2)(position) for position in range(2000)]


def test_a_shuffle_of_a_huge_range_needs_no_list() -> None:
    order = Shuffle(81 * 10**16, 5)
    visited = {order(position) for position in range(1000)}
    assert len(visited) == 1000
    assert max(visited) > 40 * 10**16 > min(visited)


def test_a_shuffle_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to shuffle"):
        Shuffle(0, 1)


@given(total=st.integers(0, 5000), weights=st.lists(st.floats(0.01, 100), min_size=1, max_size=8))
def test_shares_are_whole_and_within_one_of_exact(total: int, weights: list[float]) -> None:
    shares = apportion(total, weights)
    assert sum(shares) == total
    assert all(
        abs(share - total * weight / sum(weights)) < 1 + 1e-6 for share, weight in zip(shares, weights, strict=True)
    )


def test_a_mixture_keeps_its_weights_and_counts_each_source_without_gaps() -> None:
    mixture = Mixture([3.0, 1.0, 1e-9], seed=4)
    visited = [mixture(index) for index in range(5000)]
    counts = Counter(source for source, _ in visited)
    assert counts[0] == pytest.approx(3750, abs=10)
    assert counts[1] == pytest.approx(1250, abs=10)
    assert counts[2] >= 1  # a source that is listed is served
    for source in counts:
        assert [before for served, before in visited if served == source] == list(range(counts[source]))
