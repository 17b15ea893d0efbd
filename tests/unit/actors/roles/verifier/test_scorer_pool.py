"""Who is asked for scores, and what becomes of a request whose scorer dies, hangs, fails or is late."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest

from actors.config.network import NetworkConfig
from actors.deadline import until
from actors.errors import GaveUpError, ProtocolError, ScorerError
from actors.roles.scorer.messages import answer
from actors.roles.verifier.scorer_pool import MOST_REST_SECONDS, REST_SECONDS, Candidates, ScorerPool
from actors.tasks import Task
from actors.transport.address import resolve
from actors.transport.codec import Message, decode, encode
from actors.transport.sockets import open_router
from learner.errors import BatchError

TASK = Task("", (("user", "1+1="),), "", {})
SECONDS = 20.0
Answers = Callable[[Message], Message | None]


class FakeScorer:
    """Answers every request as it is told to; one that is told to die closes its socket without an answer."""

    def __init__(self, answers: Answers, *, dies: bool = False) -> None:
        self.asked: list[Message] = []
        self._answers, self._dies = answers, dies
        self._router = open_router(resolve(NetworkConfig(), in_cluster=False), 0, 2**20)
        self.endpoint = self._router.endpoint
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._stopping.is_set():
            if self._router.poll(0.02) and (received := self._router.receive()):
                self.asked.append(message := decode(received[1], 2**20))
                if self._dies:
                    break
                if (reply := self._answers(message)) is not None:
                    self._router.send(received[0], encode(reply))
        self._router.close()

    def close(self) -> None:
        self._stopping.set()
        self._thread.join(10)


def lengths(message: Message) -> Message:
    scores = np.array([len(text) for text in message.body["texts"]], np.float32)
    return Message("reply", message.id, answer("scored"), {"scores": scores})


def saying(outcome: Any, detail: str) -> Answers:
    return lambda message: Message("reply", message.id, answer(outcome, detail))


def silent(message: Message) -> None:
    """Nothing: as one that hangs."""


@pytest.fixture
def started() -> Iterator[Callable[..., FakeScorer]]:
    scorers: list[FakeScorer] = []

    def start(answers: Answers = lengths, *, dies: bool = False) -> FakeScorer:
        scorers.append(FakeScorer(answers, dies=dies))
        return scorers[-1]

    yield start
    for scorer in scorers:
        scorer.close()


def pool(*scorers: FakeScorer, patience: float = 5.0) -> ScorerPool:
    listed = {f"scorer-{number}": scorer.endpoint for number, scorer in enumerate(scorers)}
    return ScorerPool("verifier-1", patience, lambda: listed)


def scores(asked: ScorerPool, texts: list[str], seconds: float = SECONDS) -> list[float]:
    return [found["preference"] for found in asked(TASK, texts, seconds)]


# ---------------------------------------------------------------- who is asked


def test_the_one_with_fewest_requests_is_asked_and_the_caller_knows_whether_there_is_another() -> None:
    candidates = Candidates()
    assert candidates.take([], 0.0) is None
    assert candidates.take(["a"], 0.0) == ("a", False)
    assert candidates.take(["a", "b"], 0.0) == ("b", True)
    candidates.ended("a", 0.0, failed=False)
    assert candidates.take(["a", "b"], 0.0) == ("a", True)


def test_one_that_fails_rests_longer_each_time_until_it_answers() -> None:
    candidates, now = Candidates(), 0.0
    for rest in (REST_SECONDS, 2 * REST_SECONDS, 4 * REST_SECONDS):
        assert candidates.take(["a"], now)
        candidates.ended("a", now, failed=True)
        assert candidates.take(["a"], now + rest - 0.1) is None
        now += rest
    assert candidates.take(["a"], now)
    candidates.ended("a", now, failed=False)
    assert candidates.take(["a"], now)
    candidates.ended("a", now, failed=True)
    assert candidates.rested(["a"], now + REST_SECONDS) == ["a"], "the answer has begun it anew"
    for _ in range(20):
        now += MOST_REST_SECONDS
        assert candidates.take(["a"], now), "nobody rests longer"
        candidates.ended("a", now, failed=True)


def test_requests_that_fail_together_count_once() -> None:
    candidates = Candidates()
    for _ in range(8):
        candidates.take(["a"], 0.0)
    for _ in range(8):
        candidates.ended("a", 0.0, failed=True)
    assert candidates.rested(["a"], REST_SECONDS) == ["a"]


def test_one_that_is_listed_no_more_is_forgotten() -> None:
    candidates = Candidates()
    candidates.take(["a"], 0.0)
    candidates.ended("a", 0.0, failed=True)
    candidates.forget_all_but(["b"])
    assert candidates.rested(["a"], 0.0) == ["a"]


# ---------------------------------------------------------------- what comes of a request


def test_each_text_gets_its_score_and_the_connection_is_used_again(started: Callable[..., FakeScorer]) -> None:
    scorer = started()
    with closing(pool(scorer)) as asked:
        assert scores(asked, ["a", "abc", ""]) == [1.0, 3.0, 0.0]
        assert scores(asked, ["ab"]) == [2.0]
    first, second = scorer.asked
    assert first.body["messages"] == [["user", "1+1="]] and first.body["wait_seconds"] < SECONDS
    assert second.id == first.id + 1


def test_a_scorer_that_dies_between_request_and_answer_costs_nothing(started: Callable[..., FakeScorer]) -> None:
    dying, living = started(dies=True), started()
    with closing(pool(dying, living)) as asked:
        found = [scores(asked, ["a", "abc"]) for _ in range(3)]
    assert found == [[1.0, 3.0]] * 3
    assert len(dying.asked) <= 1 and len(living.asked) == 3
    assert len(dying.asked) + len(living.asked) >= 3


def test_where_the_one_that_died_was_alone_whoever_takes_its_place_is_asked(started: Callable[..., FakeScorer]) -> None:
    dying, listed = started(dies=True), dict[str, str]()
    listed["scorer-1"] = dying.endpoint
    asked = ScorerPool("verifier-1", 5.0, lambda: dict(listed))
    found: list[list[float]] = []
    thread = threading.Thread(target=lambda: found.append(scores(asked, ["abc"])))
    thread.start()
    assert until(lambda: bool(dying.asked), SECONDS)
    del listed["scorer-1"]
    listed["scorer-2"] = started().endpoint
    thread.join(SECONDS)
    asked.close()
    assert found == [[3.0]]


def test_of_two_the_one_that_hangs_has_half_of_the_time(started: Callable[..., FakeScorer]) -> None:
    hanging, living = started(silent), started()
    with closing(pool(hanging, living)) as asked:
        found = [scores(asked, ["abc"], 4.0) for _ in range(2)]
    assert found == [[3.0], [3.0]]
    assert all(message.body["wait_seconds"] <= 2.0 for message in hanging.asked)
    assert len(living.asked) == 2


@pytest.mark.parametrize("outcome", ["failed", "late"])
def test_where_one_fails_or_is_late_another_is_asked(started: Callable[..., FakeScorer], outcome: str) -> None:
    failing, living = started(saying(outcome, "out of memory")), started()
    with closing(pool(failing, living)) as asked:
        assert [scores(asked, ["ab"]) for _ in range(2)] == [[2.0], [2.0]]
    assert len(living.asked) == 2


def test_what_one_refuses_the_others_are_not_asked(started: Callable[..., FakeScorer]) -> None:
    scorers = [started(saying("refused", "it reads 96 at most")) for _ in range(2)]
    with closing(pool(*scorers)) as asked, pytest.raises(BatchError, match="reads 96 at most"):
        scores(asked, ["abc"])
    assert sum(len(scorer.asked) for scorer in scorers) == 1


def test_what_is_no_request_is_not_sent_to_others(started: Callable[..., FakeScorer]) -> None:
    scorers = [started(lambda m: Message("error", m.id, {"message": "score.texts: too many"})) for _ in range(2)]
    with (
        closing(pool(*scorers)) as asked,
        pytest.raises(ProtocolError, match=r"the scorer refused score: score\.texts"),
    ):
        scores(asked, ["abc"])
    assert sum(len(scorer.asked) for scorer in scorers) == 1
    asked.wait_ready(lambda: False)  # none of them rests for it


def test_scores_of_another_number_are_none(started: Callable[..., FakeScorer]) -> None:
    wrong = started(lambda m: Message("reply", m.id, answer("scored"), {"scores": np.zeros(3, np.float32)}))
    with closing(pool(wrong)) as asked, pytest.raises(ScorerError, match="other than the 1 scores"):
        scores(asked, ["abc"], 2.0)


@pytest.mark.parametrize("there", [False, True])
def test_nobody_waits_longer_than_the_group_has(started: Callable[..., FakeScorer], there: bool) -> None:
    said = pytest.raises(ScorerError, match=r"within 1\.5 s .*raise scorers\.count or verifiers\.deadline_seconds")
    with closing(pool(*([started(silent)] if there else []))) as asked, said:
        scores(asked, ["abc"], 1.5)


def test_a_verifier_waits_for_a_scorer_before_it_takes_groups(started: Callable[..., FakeScorer]) -> None:
    with closing(pool(patience=0.2)) as asked:
        with pytest.raises(GaveUpError, match=r"preferences\.wait_seconds"):
            asked.wait_ready(lambda: False)
        asked.wait_ready(lambda: True)
    dead = started(dies=True)
    with closing(pool(dead, patience=30.0)) as asked:
        asked.wait_ready(lambda: False)
        with pytest.raises(ScorerError):
            scores(asked, ["abc"], 1.0)
        looks: list[float] = []

        def looked() -> bool:
            looks.append(time.monotonic())
            return False

        asked.wait_ready(looked)  # it rests, and may be asked again then
        assert looks


def test_threads_ask_at_the_same_time(started: Callable[..., FakeScorer]) -> None:
    together = threading.Barrier(3)
    waiting: list[FakeScorer] = [started(), started()]
    with closing(pool(*waiting)) as asked:
        found: list[list[float]] = []

        def ask(text: str) -> None:
            together.wait(SECONDS)
            found.append(scores(asked, [text]))

        threads = [threading.Thread(target=ask, args=("a" * n,)) for n in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS)
    assert sorted(found) == [[0.0], [1.0], [2.0]]
