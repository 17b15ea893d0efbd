"""The pool as its users see it: order, parts, rewards, deadlines, deaths."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.deadline import until
from sandbox import (
    Pool,
    PoolClosedError,
    RewardConfig,
    RewardWeights,
    SandboxConfig,
    Status,
    Submission,
    verifier,
)

HANG = "hang-for-the-test"


@verifier("test_hang", isolated=True)
def hang(submission: Submission) -> bool:
    """Busy for ever when asked to, holding the interpreter lock."""
    if submission.response == HANG:
        return 10 ** (10**9) > 0
    if submission.response == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if submission.response == "memory":
        return len(bytearray(8 << 30)) > 0
    return submission.response == submission.reference["answer"]


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    config = SandboxConfig(workers=2, grader_seconds=1.0)
    with Pool(config, RewardConfig(weights=RewardWeights(format=0.1), format="r1_zero")) as made:
        yield made


def _children() -> set[int]:
    found: set[int] = set()
    for listing in Path("/proc/self/task").glob("*/children"):
        # A thread may end between listing and reading.
        with contextlib.suppress(OSError):
            found.update(map(int, listing.read_text().split()))
    return found


def test_scores_in_order_and_weighs_the_parts(pool: Pool) -> None:
    good = Submission("exact", "<think>2+2</think><answer>4</answer>", {"answer": "4"})
    bad = Submission("exact", "<answer>5</answer>", {"answer": "4"})
    first, second, third = pool.score([good, bad, good], 10)
    assert (first.status, first.reward, first.parts) == (Status.OK, 1.1, {"accuracy": 1.0, "format": 1.0})
    assert (second.status, second.reward, second.parts) == (Status.WRONG, 0.0, {"accuracy": 0.0, "format": 0.0})
    assert third.reward == first.reward


def test_one_bad_submission_costs_only_itself(pool: Pool) -> None:
    good = Submission("numeric", r"\boxed{3/4}", {"answer": 0.75})
    verdicts = pool.score([Submission("nonsense", "", {}), Submission("exact", "", {}), good], 10)
    assert [verdict.status for verdict in verdicts] == [Status.INFRA_ERROR, Status.INFRA_ERROR, Status.OK]
    assert [verdict.reward for verdict in verdicts[:2]] == [None, None]
    assert "known are" in verdicts[0].detail
    assert '"answer"' in verdicts[1].detail


def test_a_hung_check_is_a_timeout_and_the_others_are_scored(pool: Pool) -> None:
    wrong, right = Submission("test_hang", "no", {"answer": "yes"}), Submission("test_hang", "yes", {"answer": "yes"})
    verdicts = pool.score([Submission("test_hang", HANG, {}), wrong, right], 60)
    assert [verdict.status for verdict in verdicts] == [Status.TIMEOUT, Status.WRONG, Status.OK]
    assert verdicts[0].reward == 0.0


def test_the_deadline_of_score_is_ours_and_never_scored(pool: Pool) -> None:
    pool.score([Submission("test_hang", "warm", {"answer": "warm"})] * 2, 60)
    verdicts = pool.score([Submission("test_hang", HANG, {})] * 6, 0.5)
    assert {verdict.status for verdict in verdicts} == {Status.INFRA_ERROR}
    assert {verdict.reward for verdict in verdicts} == {None}


def test_a_text_that_crashes_the_parser_is_scored(pool: Pool) -> None:
    crash, memory = pool.score([Submission("test_hang", text, {}) for text in ("crash", "memory")], 60)
    assert crash.status is Status.UNPARSEABLE
    assert memory.status is Status.MEMORY


def test_a_worker_killed_from_outside_between_checks_is_replaced() -> None:
    submission = Submission("math", r"\boxed{\sqrt{8}}", {"answer": r"2\sqrt{2}"})
    before = _children()
    with Pool(SandboxConfig(workers=1), RewardConfig()) as made:
        assert made.score([submission], 60)[0].status is Status.OK
        for pid in _children() - before:
            os.kill(pid, signal.SIGKILL)
        assert made.score([submission], 60)[0].status is Status.OK
    assert _children() <= before


def test_workers_start_only_when_needed_and_all_end() -> None:
    before, threads = _children(), threading.active_count()
    with Pool(SandboxConfig(), RewardConfig()) as made:
        made.score([Submission("exact", "<answer>1</answer>", {"answer": "1"})], 60)
        assert _children() <= before
        made.score([Submission("math", r"\boxed{x+x}", {"answer": "2x"})] * 3, 60)
        assert _children() - before
    assert _children() <= before
    assert threading.active_count() <= threads
    with pytest.raises(PoolClosedError):
        made.score([], 1)


def test_closing_ends_a_score_in_progress() -> None:
    made = Pool(SandboxConfig(workers=1, grader_seconds=60), RewardConfig())
    thread = threading.Thread(target=made.score, args=([Submission("test_hang", HANG, {})], 60))
    before = _children()
    thread.start()
    assert until(lambda: bool(_children() - before), 30)
    made.close()
    thread.join(30)
    assert not thread.is_alive()


def test_reasoning_gym_scores_with_its_own_function(pool: Pool) -> None:
    entry = {"question": "1 + 2 =", "answer": "3", "metadata": {}}
    reference = {"dataset": "chain_sum", "entry": entry}
    verdicts = pool.score([Submission("reasoning_gym", f"<answer>{text}</answer>", reference) for text in "34"], 60)
    assert [verdict.status for verdict in verdicts] == [Status.OK, Status.WRONG]
