"""Several sets of arrays in one message."""

import numpy as np

from actors.replay.bundle import bundled, unbundled


def test_each_set_comes_back_under_its_own_names() -> None:
    one, two = {"tokens": np.arange(3)}, {"tokens": np.arange(2), "logprobs": np.zeros(2)}
    message = bundled(0, one) | bundled(2, two)
    assert sorted(message) == ["0.tokens", "2.logprobs", "2.tokens"]
    first, second, third = unbundled(message, 3)
    assert first.keys() == one.keys() and first["tokens"] is one["tokens"]
    assert second == {}
    assert third.keys() == two.keys()


def test_names_of_no_position_are_left_out() -> None:
    assert unbundled({"7.tokens": np.arange(1), "tokens": np.arange(1), "": np.arange(1)}, 1) == [{}]
