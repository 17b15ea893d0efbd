"""Records of a file: what is the submission's own, what the verifier's, and what is no record."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sandbox import Pool, RewardConfig, SandboxConfig, Submission, verifier
from sandbox.errors import BadRecordError
from sandbox.offline import score_lines, submission_of


def test_fields_that_are_not_the_submissions_own_are_the_reference() -> None:
    record = {
        "id": 1,
        "verifier": "exact",
        "response": "4",
        "prompt": "2+2",
        "length": 3,
        "answer": "4",
        "last_number": True,
    }
    assert submission_of(record) == Submission("exact", "4", {"answer": "4", "last_number": True}, "2+2", False, 3)
    given = {"verifier": "exact", "response": "4", "reference": {"answer": "5"}, "prompt": "2+2"}
    assert submission_of({**given, "length": 3}) == Submission("exact", "4", {"answer": "5"}, "2+2", False, 3)


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
        ({"length": -1}, "length"),
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


EXACT = {"verifier": "exact", "response": "4"}
RIGHT = {**EXACT, "answer": "4"}
PROGRAM = {"verifier": "stdio", "response": "print(1)", "raw": True}
TESTS = [{"stdin": "", "stdout": "1"}]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({**EXACT, "anwser": "4"}, 'exact: .* "anwser"; did you mean "answer"'),
        ({**RIGHT, "verifier": "math", "promt": "2+2"}, 'math: .* "promt"; did you mean "prompt"'),
        ({**EXACT, "answer": "4", "zzz": 1}, '"zzz"; there are answer, last_number'),
        ({**RIGHT, "relative_tolerance": 1}, 'exact: .* "relative_tolerance"'),
        ({**EXACT, "reference": {"anwser": "4"}}, 'exact: .* did you mean "answer"'),
        ({**EXACT, "reference": {}, "zzz": 1}, 'exact: there is no field "zzz"'),
        ({**EXACT, "reference": {"answer": "5"}, "answer": "4"}, '"answer" are both given'),
        ({**PROGRAM, "reference": {"tests": TESTS}}, 'stdio: "reference" and "raw" are both given'),
        ({**PROGRAM, "tests": TESTS, "language": "rust"}, 'stdio: "language" must be "python"'),
        ({"verifier": "stdio", "response": "", "reference": {"tests": TESTS, "language": 3}}, '"language" must be'),
        ({"verfier": "exact", "response": "4", "answer": "4"}, '"verifier" is missing; did you mean it by "verfier"'),
        ({"verifier": "exact", "answer": "4"}, '"response" is missing$'),
    ],
)  # fmt: skip
def test_what_would_be_ignored_is_refused(record: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadRecordError, match=reason):
        submission_of(record)


def test_common_fields_and_nulls_are_accepted_whatever_the_verifier() -> None:
    record = {**EXACT, "answer": "4", "raw": True, "language": "Python", "tests": None}
    assert submission_of(record).reference["answer"] == "4"


def test_a_verifier_that_names_no_keys_accepts_any() -> None:
    @verifier("offline_any")
    def anything(submission: Submission) -> bool:
        return bool(submission.reference)

    record = {"verifier": "offline_any", "response": "4", "shade": "red", "language": "rust"}
    assert submission_of(record).reference == {"shade": "red", "language": "rust"}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"verifier": "exact", "response": "", "answer": 4, "answer": 5}', 'exact: the field "answer" occurs twice'),
        ('{"verifier": "function", "response": "", "tests": [[[{"a": 1, "a": 2}], 1]]}', 'the field "a" occurs twice'),
    ],
)  # fmt: skip
def test_a_key_that_occurs_twice_is_refused_and_the_other_records_are_scored(line: str, reason: str) -> None:
    good = json.dumps({"verifier": "exact", "response": "<answer>4</answer>", "answer": "4"})
    with Pool(SandboxConfig(workers=1), RewardConfig()) as pool:
        first, second = score_lines([line, good], pool, 30)
    assert (first.line, first.record, first.problem) == (1, None, reason)
    assert second.record is not None
    assert second.record["status"] == "ok"
