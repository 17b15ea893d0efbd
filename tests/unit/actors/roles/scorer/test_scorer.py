"""The scorer around a model of three lines: who is answered what, and what a broken group costs the others."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.config.loading import load
from actors.deadline import until
from actors.errors import ProtocolError, RunError, ScorerError
from actors.roles.role import RoleContext, Storage
from actors.roles.scorer import scorer as role
from actors.roles.scorer.batching import EncodedGroup
from actors.roles.scorer.files import FOLDER
from actors.roles.scorer.messages import ScoreRequest, ScoreTexts
from actors.roles.scorer.scorer import Scorer
from actors.roles.scorer.work import MOST_FAILURES
from actors.roles.verifier.scorer_pool import ScorerLine, ScorerPool
from actors.tasks import Task
from actors.transport.client import Client
from actors.transport.codec import Array
from learner.errors import BatchError
from tests.unit.actors.transport.test_client import FakeReplay

QUICKSTART = Path(__file__).parents[5] / "recipes" / "quickstart.yaml"
TASK = Task("", (("user", "1+1="),), "", {})
SECONDS = 20.0


class Lengths:
    """A text's score is its length; it holds its breath until it is let go, and breaks on `break`."""

    def __init__(self, *_: object) -> None:
        self.batches: list[int] = []
        self.held = threading.Event()
        self.free = threading.Event()
        self.free.set()

    def read(self, request: ScoreRequest, _arrays: Mapping[str, Array]) -> EncodedGroup:
        assert isinstance(request, ScoreTexts) and request.task.messages == TASK.messages
        texts = request.texts
        if any(text == "long" for text in texts):
            raise BatchError("prompt and answer are 97 tokens, and the reward model reads 96 at most")
        if any(text == "unreadable" for text in texts):
            raise KeyError("a bug")
        answers = tuple(np.full(len(text), text == "break", np.int32) for text in texts)
        return EncodedGroup(np.zeros(2, np.int32), answers, tuple(range(len(texts))))

    def score(self, groups: Sequence[EncodedGroup]) -> list[Array]:
        if not self.free.is_set():
            self.held.set()
        assert self.free.wait(SECONDS)
        if any(answer.any() for group in groups for answer in group.answers):
            raise RuntimeError("out of memory")
        self.batches.append(len(groups))
        return [np.array([len(answer) for answer in group.answers], np.float32) for group in groups]


class Serving:
    """A scorer at work in a thread."""

    def __init__(self, folder: Path, replay: str, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> None:
        self.model = Lengths()
        monkeypatch.setattr(role, "ServedModel", lambda *_: self.model)
        settings = [f"preferences.reward_model={folder / FOLDER}", "membership.heartbeat_seconds=0.1", *overrides]
        recipe = load(QUICKSTART, settings)
        self.role = Scorer(RoleContext(recipe, "scorer-1", Storage(folder), replay))
        self.address = self.role.describe().address
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.role.run()
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.error = error

    def pool(self) -> ScorerPool:
        return ScorerPool("verifier-1", 5.0, lambda: {"scorer-1": self.address})

    def ended(self) -> bool:
        self.thread.join(SECONDS)
        return not self.thread.is_alive()


Serve = Callable[..., Serving]


@pytest.fixture
def serve(tmp_path: Path, replay: FakeReplay, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    started: list[Serving] = []

    def begin(*overrides: str) -> Serving:
        started.append(Serving(tmp_path, replay.endpoint, monkeypatch, *overrides))
        return started[-1]

    yield begin
    for each in started:
        each.model.free.set()
        each.role.stop()
        assert each.ended()


def values(found: list[dict[str, float]]) -> list[float]:
    return [each["preference"] for each in found]


def in_threads(calls: Sequence[Callable[[], Any]]) -> tuple[list[threading.Thread], list[Any]]:
    found: list[Any] = [None] * len(calls)

    def call(place: int) -> None:
        try:
            found[place] = calls[place]()
        except Exception as error:  # noqa: BLE001 - the test looks at it
            found[place] = error

    threads = [threading.Thread(target=call, args=(place,), daemon=True) for place in range(len(calls))]
    for thread in threads:
        thread.start()
    return threads, found


def test_it_says_where_it_is_once_its_model_is_there_and_no_more_once_it_leaves(
    serve: Serve, replay: FakeReplay
) -> None:
    serving = serve()

    def told() -> dict[str, Any]:
        return dict(replay.bodies[-1]["report"]) if replay.bodies else {}

    assert until(lambda: told().get("service") == serving.address, SECONDS)
    assert told()["ready"] and replay.bodies[-1]["role"] == "scorer"
    serving.role.drain()
    assert until(lambda: not told()["service"], SECONDS)
    with closing(serving.pool()) as pool:
        assert values(pool(TASK, ["abc"], SECONDS)) == [3.0], "whoever did not know yet is answered"
    assert serving.ended() and serving.error is None


def test_what_came_while_it_scored_is_scored_together(serve: Serve) -> None:
    serving = serve("scorers.batch_tokens=20")
    model = serving.model

    def scored_together() -> bool:
        """One is held, and four more are asked for; whether some of them were there when it was let go."""
        model.batches.clear()
        model.held.clear()
        model.free.clear()
        first, found = in_threads([lambda: values(pool(TASK, ["a"], SECONDS))])
        assert model.held.wait(SECONDS)
        more, others = in_threads([lambda n=n: values(pool(TASK, ["a" * n], SECONDS)) for n in (2, 3, 4, 5)])
        assert until(lambda: pool._candidates._asked[serving.address] == 5, SECONDS)
        model.free.set()
        for thread in first + more:
            thread.join(SECONDS)
        assert found == [[1.0]] and others == [[2.0], [3.0], [4.0], [5.0]]
        assert model.batches[0] == 1 and sum(model.batches) == 5
        # The four have 2 + 2, 2 + 3, 2 + 4 and 2 + 5 tokens, together more than 20.
        assert max(model.batches) <= 3
        return max(model.batches) > 1

    with closing(serving.pool()) as pool:
        assert until(scored_together, SECONDS)


def test_a_group_that_breaks_the_model_costs_the_others_of_its_batch_nothing(serve: Serve) -> None:
    serving = serve()
    serving.model.free.clear()
    with closing(serving.pool()) as pool:
        calls = [lambda text=text: values(pool(TASK, [text], 3.0)) for text in ("ab", "break", "abcd")]
        threads, found = in_threads(calls)
        assert serving.model.held.wait(SECONDS)
        assert until(lambda: pool._candidates._asked[serving.address] == 3, SECONDS)
        serving.model.free.set()
        for thread in threads:
            thread.join(SECONDS)
    assert (found[0], found[2]) == ([2.0], [4.0])
    assert isinstance(found[1], ScorerError) and "out of memory" in str(found[1])


def test_a_model_that_breaks_again_and_again_ends_the_process(serve: Serve) -> None:
    serving = serve()
    client = Client(ScorerLine(serving.address), "verifier-1", "verifier", once=True, peer="scorer")
    outcomes = []
    with closing(client):
        for _ in range(MOST_FAILURES):
            body = {"messages": [["user", "1+1="]], "texts": ["break"]}
            outcomes.append(client.request("score", body, wait_seconds=5.0, deadline_seconds=5.0).body["outcome"])
    assert outcomes == ["failed"] * MOST_FAILURES
    assert serving.ended()
    assert isinstance(serving.error, RunError) and "could not score 5 groups in a row" in str(serving.error)


def test_what_is_too_long_is_refused_and_what_cannot_be_read_failed(serve: Serve) -> None:
    with closing(serve().pool()) as pool:
        with pytest.raises(BatchError, match="reads 96 at most"):
            pool(TASK, ["ab", "long"], SECONDS)
        with pytest.raises(ScorerError, match="KeyError"):
            pool(TASK, ["unreadable"], 1.5)


def test_what_nobody_waits_for_is_not_scored(serve: Serve) -> None:
    serving = serve()
    serving.model.free.clear()
    with closing(serving.pool()) as pool, closing(serving.pool()) as other:
        first, found = in_threads([lambda: values(pool(TASK, ["a"], SECONDS))])
        assert serving.model.held.wait(SECONDS)
        with pytest.raises(ScorerError, match=r"within 1\.5 s"):
            other(TASK, ["abc"], 1.5)
        serving.model.free.set()
        for thread in first:
            thread.join(SECONDS)
        assert values(pool(TASK, ["ab"], SECONDS)) == [2.0]
    assert found == [[1.0]]
    assert serving.model.batches == [1, 1], "the one that was given up is not among them"


@pytest.mark.parametrize(
    ("kind", "body", "why"),
    [
        ("score", {"messages": [["user", "?"]], "texts": []}, "score.texts"),
        ("score", {"messages": [], "texts": ["a"]}, "score.messages"),
        ("lease", {}, "unknown message 'lease'"),
    ],
)
def test_what_is_no_request_is_refused_with_its_reason(serve: Serve, kind: str, body: dict[str, Any], why: str) -> None:
    client = Client(ScorerLine(serve().address), "verifier-1", "verifier", once=True, peer="scorer")
    with closing(client), pytest.raises(ProtocolError, match=f"the scorer refused {kind}: {why}"):
        client.request(kind, body, wait_seconds=5.0, deadline_seconds=5.0)


def test_it_waits_for_the_reward_model_that_the_learner_trains_and_not_for_ever(
    tmp_path: Path, replay: FakeReplay, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = Serving(
        tmp_path,
        replay.endpoint,
        monkeypatch,
        "preferences={pairs: pairs.jsonl, wait_seconds: 0.1}",
        "preferences.reward_model=null",
    )
    assert late.ended()
    assert isinstance(late.error, RunError) and "waited 0.1 s for the reward model" in str(late.error)
    stopped = Serving(tmp_path, replay.endpoint, monkeypatch, "preferences={pairs: pairs.jsonl, reward_model: null}")
    stopped.role.stop()
    assert stopped.ended() and stopped.error is None
