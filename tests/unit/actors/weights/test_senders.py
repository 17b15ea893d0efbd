"""Which ranks of the learner send the weights."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.config.loading import load
from actors.errors import RecipeError
from actors.weights.senders import senders_of
from tests.unit.actors.roles.learner.test_learner import QUICKSTART

TWO_NODES = ["10.0.0.1"] * 3 + ["10.0.0.2"] * 3


@pytest.mark.parametrize(
    ("nodes", "count", "senders"),
    [
        (["127.0.0.1"], None, [0]),
        (["127.0.0.1"] * 4, None, [0]),
        (["127.0.0.1"] * 4, 2, [0, 1]),
        (TWO_NODES, None, [0, 3]),
        (TWO_NODES, 1, [0]),
        (TWO_NODES, 4, [0, 3, 1, 4]),
        (TWO_NODES[::2], None, [0, 2]),
        (["10.0.0.1", "10.0.0.2", "10.0.0.1", "10.0.0.3"], None, [0, 1, 3]),
    ],
)
def test_the_first_rank_of_each_node_sends_unless_the_recipe_says_how_many(
    nodes: list[str], count: int | None, senders: list[int]
) -> None:
    assert senders_of(nodes, count) == senders


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=16), st.integers(1, 16))
def test_senders_differ_and_no_node_has_two_more_than_another_that_could(nodes: list[str], count: int) -> None:
    found = senders_of(nodes, min(count, len(nodes)))
    assert found[0] == 0 and len(set(found)) == len(found) == min(count, len(nodes))
    has = {node: sum(nodes[rank] == node for rank in found) for node in nodes}
    assert all(has[node] >= max(has.values()) - 1 for node in nodes if has[node] < nodes.count(node))


def test_there_are_no_more_senders_than_ranks() -> None:
    with pytest.raises(RecipeError, match=r"weights\.senders must not be above learner\.ranks, which is 1"):
        load(QUICKSTART, ["weights.senders=2"])
