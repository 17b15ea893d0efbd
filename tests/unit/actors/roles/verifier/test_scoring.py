"""Which part of a completion is its answer."""

import pytest

from actors.roles.verifier.scoring import answer_in


@pytest.mark.parametrize(
    ("response", "thinks_first", "answer"),
    [
        ("<think>so</think><answer>42</answer>", True, "42"),
        ("so</think>\n\nIt is 42.", False, "It is 42."),
        ("It is 42.", False, "It is 42."),
        ("It may be 42", True, ""),
        ("\n<think>It may be 42", False, ""),
        ("so</think>", False, ""),
        ("so</think>It is</think> 42", False, "It is 42"),
        ("", False, ""),
    ],
)
def test_an_answer_is_what_follows_the_thoughts(response: str, thinks_first: bool, answer: str) -> None:
    assert answer_in(response, thinks_first) == answer
