"""Records of a file: what is the submission's own, what the verifier's, and what is no record."""

from __future__ import annotations

from typing import Any

import pytest

from sandbox import Submission
from sandbox.errors import BadRecordError
from sandbox.offline import submission_of


def test_fields_that_are_not_the_submissions_own_are_the_reference() -> None:
    record = {"id": 1, "verifier": "exact", "response": "4", "prompt": "2+2", "length": 3, "answer": "4", "last": 1}
    assert submission_of(record) == Submission("exact", "4", {"answer": "4", "last": 1}, "2+2", False, 3)
    given = {"verifier": "exact", "response": "4", "reference": {"answer": "5"}, "answer": "4"}
    assert submission_of(given).reference == {"answer": "5"}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"verifier": None}, "verifier"),
        ({"response": 4}, "response"),
        ({"id": [1]}, "id"),
        ({"id": float("nan")}, "id"),
        ({"id": 1 << 5000}, "id"),
        ({"reference": []}, "reference"),
        ({"prompt": 1}, "prompt"),
        ({"truncated": 1}, "truncated"),
        ({"length": True}, "length"),
    ],
)
def test_what_is_no_record_is_bad_input_that_is_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(BadRecordError, match=f'"{named}"') as caught:
        submission_of({"verifier": "exact", "response": "4", **change})
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("record", [None, [], "text", 1])
def test_a_record_is_an_object(record: Any) -> None:
    with pytest.raises(BadRecordError, match="object"):
        submission_of(record)
