"""Every writing in the table of docs/sandbox.md is judged as it says there."""

from __future__ import annotations

import pytest

from sandbox.mathematics import matches
from sandbox.mathematics.algebra import equal
from tests.unit.sandbox.mathematics.notations import NOTATIONS, Notation


@pytest.mark.parametrize("notation", NOTATIONS, ids=lambda notation: notation.kind)
def test_writings_are_the_same_and_near_answers_are_not(notation: Notation) -> None:
    judged = {given: matches(notation.expected, given, equal) for given in (*notation.same, *notation.other)}
    assert judged == dict.fromkeys(notation.same, True) | dict.fromkeys(notation.other, False)
