"""Reports on unfinished groups: what they say arrives, however they are split, repeated or lost."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.errors import ProtocolError
from actors.replay.partials import Partials
from actors.replay.progress import (
    NOTHING,
    End,
    Partial,
    decode_progress,
    encode_progress,
    leased_parts,
)


def part(*versions: int, end: End = End.RUNNING, first: int = 0) -> Partial:
    """A completion with one token a version."""
    tokens = np.arange(first, first + len(versions), dtype=np.int32)
    spans = tuple((version, 1) for version in versions)
    return NOTHING.plus(Partial(tokens, (-tokens / 10).astype(np.float32), spans, end))


def same(one: Partial, other: Partial) -> bool:
    return bool(
        (one.tokens.tolist(), one.spans, one.end) == (other.tokens.tolist(), other.spans, other.end)
        and (one.logprobs == other.logprobs).all()
    )


def test_what_is_reported_arrives_with_its_versions() -> None:
    parts = [part(3, 3, 4), NOTHING, part(2, end=End.TRUNCATED)]
    arrived, offsets = decode_progress(encode_progress(parts, [0, 0, 0]), 3)
    assert offsets == [0, 0, 0]
    assert all(map(same, arrived, parts))
    assert arrived[0].spans == ((3, 2), (4, 1))


def test_where_the_tokens_of_an_ended_completion_went_comes_with_it_once() -> None:
    """Of a prompt of four tokens: 6 rows of 3 layers with 2 experts each; another one is still under way."""
    routes = np.arange(36, dtype=np.uint16).reshape(6, 6)
    ended = replace(part(1, 1, 1, end=End.STOPPED), routed_experts=routes)
    held = Partials(2**20)
    known = held.report("train", 7, 0, *decode_progress(encode_progress([part(1, 1), part(2)], [0, 0]), 2))
    arrays = encode_progress([ended, part(2, 2)], known)
    assert arrays["routed_tokens"].tolist() == [6, 0] and arrays["lengths"].tolist() == [1, 1]
    known = held.report("train", 7, 0, *decode_progress(arrays, 2))
    assert held.nbytes == 5 * 8 + routes.nbytes
    again = encode_progress([ended, part(2, 2, 2)], known)
    assert not len(again["routed_experts"])
    held.report("train", 7, 0, *decode_progress(again, 2))
    held.lost("train", 7)
    (first, second), _ = decode_progress(encode_progress(held.resume("train", 8, 0, oldest=0), [0, 0]), 2)
    assert same(first, ended) and first.routed_experts is not None
    assert first.routed_experts.dtype == np.uint16 and (first.routed_experts == routes).all()
    assert len(second) == 3 and second.routed_experts is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("routed_tokens", [5, 1]), ("routed_tokens", [-6, 0]), ("routed_tokens", [7, 0]), ("routed_experts", [1] * 35)],
)
def test_routes_that_are_out_of_form_are_refused(name: str, value: list[int]) -> None:
    ended = replace(part(1, 1, end=End.STOPPED), routed_experts=np.zeros((6, 6), np.uint8))
    good = encode_progress([ended, part(2)], [0, 0])
    decode_progress(good, 2)
    with pytest.raises(ProtocolError):
        decode_progress(good | {name: np.asarray(value, good[name].dtype)}, 2)


def test_the_rest_of_a_completion_begins_in_the_middle_of_a_span() -> None:
    whole = part(1, 1, 1, 2, 2)
    for position in range(6):
        rest = whole.since(position)
        assert sum(tokens for _, tokens in rest.spans) == len(rest) == 5 - position
        assert same(Partial(whole.tokens[:position], whole.logprobs[:position], ()).plus(rest), whole) or position


@given(
    versions=st.lists(st.integers(0, 3), min_size=1, max_size=12).map(sorted),
    reports=st.lists(st.tuples(st.integers(0, 12), st.booleans()), max_size=8),
)
def test_lost_and_repeated_reports_never_make_up_a_token(versions: list[int], reports: list[tuple[int, bool]]) -> None:
    """The generator reports from where the replay has said that it is; some reports come twice, some answers never."""
    whole, held, known = part(*versions), Partials(2**20), [0]
    for length, answered in sorted(reports):
        sofar = Partial(whole.tokens[:length], whole.logprobs[:length], part(*versions[:length]).spans)
        for _ in range(2):
            parts, offsets = decode_progress(encode_progress([sofar], known), 1)
            answer = held.report("train", 7, 0, parts, offsets)
        if answered:
            known = answer
    held.lost("train", 7)
    for found in held.resume("train", 8, 0, oldest=0):
        assert same(found, Partial(whole.tokens[: len(found)], whole.logprobs[: len(found)], found.spans))
        assert found.spans == part(*versions[: len(found)]).spans
        assert len(found) == min(max(length for length, _ in reports), len(versions))


def test_a_replay_that_forgot_is_told_everything_again() -> None:
    before, after = Partials(2**20), Partials(2**20)
    known = before.report("train", 7, 0, [part(1, 1)], [0])
    parts, offsets = decode_progress(encode_progress([part(1, 1, 1)], known), 1)
    assert after.report("train", 7, 0, parts, offsets) == [0], "tokens were made up for the missing ones"
    assert after.report("train", 7, 0, [part(1, 1, 1)], [0]) == [3]


def test_what_would_come_too_late_begins_anew_and_the_rest_goes_on() -> None:
    held = Partials(2**20)
    held.report("train", 7, 5, [part(1, 2, 3), part(3, end=End.STOPPED), NOTHING], [0, 0, 0])
    held.lost("train", 7)
    old, ended, none = held.resume("train", 8, 5, oldest=2)
    assert (len(old), old.end) == (0, End.RUNNING)
    assert same(ended, part(3, end=End.STOPPED))
    assert len(none) == 0
    held.lost("train", 8)
    assert held.resume("train", 9, 5, oldest=4) == [], "nothing is left that could be trained in time"
    assert held.nbytes == 0


def test_memory_is_bounded_and_given_back() -> None:
    held = Partials(max_bytes=part(0, 0, 0).nbytes)
    assert held.report("train", 1, 1, [part(0, 0)], [0]) == [2]
    assert held.report("train", 2, 2, [part(0, 0)], [0]) == [0], "there is no room for it"
    assert held.report("train", 1, 1, [part(0, first=2)], [2]) == [3]
    held.forget("train", 1)
    assert held.report("train", 2, 2, [part(0, 0)], [0]) == [2]
    held.report("evaluate", 2, 2, [part(0)], [0])
    held.lost("evaluate", 2)
    held.forget_all("evaluate")
    held.lost("train", 2)
    assert held.nbytes == part(0, 0).nbytes
    held.resume("train", 3, 2, oldest=0)
    held.forget("train", 3)
    assert held.nbytes == 0


def test_progress_of_a_task_is_of_its_latest_group() -> None:
    held = Partials(2**20)
    for group_id, tokens in ((1, 3), (2, 1)):
        held.report("train", group_id, 5, [part(*[0] * tokens)], [0])
        held.lost("train", group_id)
    assert [len(p) for p in held.resume("train", 3, 5, oldest=0)] == [1]
    held.forget("train", 3)
    assert held.nbytes == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("offsets", [-1, 0]),
        ("lengths", [3, 0]),
        ("lengths", [-1, 3]),
        ("ends", [3, 0]),
        ("tokens", [0, -1]),
        ("tokens", [0, 99]),
        ("logprobs", [0.5, 0.0]),
        ("logprobs", [np.nan, 0.0]),
        ("logprobs", [-1.0]),
        ("spans", [1]),
        ("spans", [2, 0]),
        ("span_versions", [-1]),
        ("span_tokens", [0]),
        ("span_tokens", [1]),
    ],
)
def test_a_report_that_is_out_of_form_is_refused(name: str, value: list[float]) -> None:
    good = encode_progress([part(0, 0), NOTHING], [0, 0])
    decode_progress(good, 2, vocabulary=99)
    with pytest.raises(ProtocolError):
        decode_progress(good | {name: np.asarray(value, good[name].dtype)}, 2, vocabulary=99)


@pytest.mark.parametrize("samples", [1, 3])
def test_a_report_on_another_number_of_completions_is_refused(samples: int) -> None:
    with pytest.raises(ProtocolError):
        decode_progress(encode_progress([part(0), NOTHING], [0, 0]), samples)


def test_a_completion_that_ended_without_a_token_is_refused() -> None:
    nothing = Partial(NOTHING.tokens, NOTHING.logprobs, (), End.STOPPED)
    with pytest.raises(ProtocolError, match="without a token"):
        Partials(2**20).report("train", 1, 1, [nothing], [0])


def test_a_lease_says_of_each_task_what_is_known_of_it() -> None:
    held = Partials(2**20)
    held.report("train", 1, 6, [part(0), part(0, 0)], [0, 0])
    held.lost("train", 1)
    tasks = [{"task": 5, "samples": 2}, {"task": 6, "samples": 2}]
    arrays = encode_progress(held.resume("train", 2, 6, oldest=0), [0, 0])
    new, continued = leased_parts({f"1.{name}": array for name, array in arrays.items()}, tasks)
    assert new == []
    assert [len(p) for p in continued] == [1, 2]
