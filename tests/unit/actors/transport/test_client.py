"""Heartbeats against a replay of two lines."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from itertools import pairwise
from typing import Any

import pytest

from actors.config.network import NetworkConfig
from actors.deadline import until
from actors.errors import PeerTimeoutError
from actors.membership import Report
from actors.transport import client
from actors.transport.address import resolve
from actors.transport.client import Client, Heartbeat
from actors.transport.codec import Message, decode, encode
from actors.transport.lifeline import Lifeline
from actors.transport.sockets import open_router


class FakeReplay:
    """Answers every request with `reply`, and keeps what it was told."""

    def __init__(self, port: int = 0) -> None:
        self.reply: Mapping[str, Any] | None = {}
        self.delay_seconds = 0.0
        self.bodies: list[Mapping[str, Any]] = []
        self.kinds: list[str] = []
        self.moments: list[float] = []
        self._router = open_router(resolve(NetworkConfig(), in_cluster=False), port, 2**20)
        self.endpoint = self._router.endpoint
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._stopping.is_set():
            if self._router.poll(0.02) and (received := self._router.receive()):
                identity, frames = received
                message = decode(frames, 2**20)
                self.bodies.append(message.body)
                self.kinds.append(message.kind)
                self.moments.append(time.monotonic())
                if self.reply is not None:
                    time.sleep(self.delay_seconds)
                    self._router.send(identity, encode(Message("reply", message.id, self.reply)))

    def close(self) -> None:
        self._stopping.set()
        self._thread.join(10)
        self._router.close()


@pytest.fixture
def beating(replay: FakeReplay) -> Iterator[Callable[[float, Callable[[], Report]], Heartbeat]]:
    hearts: list[Heartbeat] = []

    def begin(interval: float, report: Callable[[], Report] = Report) -> Heartbeat:
        hearts.append(Heartbeat(replay.endpoint, "generator-1", "generator", interval, report))
        return hearts[-1]

    yield begin
    for heart in hearts:
        heart.close()


Beating = Callable[..., Heartbeat]


def test_the_first_report_leaves_at_once_and_a_change_does_not_wait(replay: FakeReplay, beating: Beating) -> None:
    version = [3]
    heart = beating(20.0, lambda: Report(version=version[0]))
    assert until(lambda: len(replay.bodies) == 1, 30)
    version[0] = 4
    heart.beat_now()
    assert until(lambda: len(replay.bodies) == 2, 30)
    assert [body["report"]["version"] for body in replay.bodies] == [3, 4]
    assert {(body["worker"], body["role"]) for body in replay.bodies} == {("generator-1", "generator")}


def test_who_is_alive_comes_back_with_the_reply(replay: FakeReplay, beating: Beating) -> None:
    replay.reply = {"alive": {"generator": ["a", "b"]}}
    heart = beating(0.05)
    assert until(lambda: heart.alive("generator") == {"a", "b"}, 30)
    assert heart.alive("verifier") == frozenset()
    replay.reply = {"alive": {"generator": ["b"]}}
    assert until(lambda: heart.alive("generator") == {"b"}, 30)


def test_where_the_scorers_are_comes_back_with_the_reply(replay: FakeReplay, beating: Beating) -> None:
    replay.reply = {"scorers": {"scorer-1": "tcp://10.0.0.1:1"}}
    heart = beating(0.05)
    assert until(lambda: heart.scorers() == {"scorer-1": "tcp://10.0.0.1:1"}, 30)
    replay.reply = None
    assert heart.scorers() == {"scorer-1": "tcp://10.0.0.1:1"}, "it is what was said last"
    replay.reply = {}
    assert until(lambda: heart.scorers() == {}, 30)


def test_a_replay_that_is_silent_for_a_while_is_told_again(replay: FakeReplay, beating: Beating) -> None:
    replay.reply = None
    heart = beating(0.05)
    assert until(lambda: len(replay.bodies) >= 2, 30)
    assert heart.alive("generator") == frozenset()
    replay.reply = {"alive": {"generator": ["a"]}}
    assert until(lambda: heart.alive("generator") == {"a"}, 30)


def test_a_heartbeat_without_an_answer_is_repeated_within_two_intervals(replay: FakeReplay, beating: Beating) -> None:
    replay.reply = None
    interval = 0.3
    beating(interval)

    def repeated_in_time() -> bool:  # once is enough: a busy machine adds to the time between two, and takes none away
        moments = list(replay.moments)
        return any(later - earlier < 2 * interval for earlier, later in pairwise(moments))

    assert until(repeated_in_time, 30), "the list's timeout may be as short as three intervals"


def test_what_was_done_last_is_reported_at_the_end(replay: FakeReplay, beating: Beating) -> None:
    done = [0]
    heart = beating(60.0, lambda: Report(generated_tokens=done[0]))
    assert until(lambda: len(replay.bodies) == 1, 30)
    done[0] = 70
    heart.close()
    assert replay.bodies[-1]["report"]["generated_tokens"] == 70


def test_a_report_that_cannot_be_made_ends_no_heartbeat(replay: FakeReplay, beating: Beating) -> None:
    broken = [True]

    def report() -> Report:
        if broken[0]:
            raise ValueError("no such counter")
        return Report(generated_tokens=5)

    beating(0.05, report)
    broken[0] = False
    assert until(lambda: any(b["report"]["generated_tokens"] == 5 for b in replay.bodies), 30)


def test_a_client_waits_for_as_long_as_it_has_patience_or_a_request_says(replay: FakeReplay) -> None:
    replay.reply = None
    with closing(Client(replay.endpoint, "learner", "learner", patience_seconds=0.1)) as client:
        with pytest.raises(PeerTimeoutError, match=r"trained within 0\.1 s"):
            client.request("trained")
        with pytest.raises(PeerTimeoutError, match=r"lease within 0\.2 s"):
            client.request("lease", wait_seconds=0.1)
        with pytest.raises(PeerTimeoutError, match=r"status within 0\.05 s"):
            client.request("status", deadline_seconds=0.05)


# ---------------------------------------------------------------- a replay that is away


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "REPLY_SECONDS", 0.2)


@pytest.mark.usefixtures("impatient")
def test_a_request_without_an_answer_is_sent_again_until_there_is_one(replay: FakeReplay) -> None:
    replay.reply = None
    asking = Client(replay.endpoint, "verifier-1", "verifier", patience_seconds=60.0)
    answers: list[Message] = []
    thread = threading.Thread(target=lambda: answers.append(asking.request("verdict", {"group_id": 7})))
    thread.start()
    assert until(lambda: len(replay.bodies) >= 2, 30)
    replay.reply = {"accepted": True}
    thread.join(30)
    assert answers[0].body == {"accepted": True}
    assert {body["group_id"] for body in replay.bodies} == {7}
    asking.close()


@pytest.mark.usefixtures("impatient")
def test_a_poll_is_answered_over_a_wire_that_takes_longer_than_an_answer_may(replay: FakeReplay) -> None:
    replay.reply, replay.delay_seconds = {"groups": []}, 0.5
    with closing(Client(replay.endpoint, "verifier-1", "verifier", patience_seconds=60.0)) as asking:

        def answered() -> bool:
            return asking.poll("lease_verification", wait_seconds=0.0) is not None

        assert until(lambda: answered() and answered(), 60), "after the first it is known how long they take"


@pytest.mark.usefixtures("impatient")
def test_who_waits_for_long_follows_the_replay_at_once(replay: FakeReplay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "REPLY_SECONDS", 1000.0)
    monkeypatch.setattr(client, "LOOK_SECONDS", 0.05)
    line = Lifeline("tcp://127.0.0.1:9", patience_seconds=3000.0)
    asking = Client(line, "verifier-1", "verifier")
    answers: list[Message] = []
    thread = threading.Thread(target=lambda: answers.append(asking.request("status")), daemon=True)
    thread.start()
    line.told(replay.endpoint)
    thread.join(30)
    assert len(answers) == 1
    asking.close()


@pytest.mark.usefixtures("impatient")
def test_a_request_follows_the_replay_to_where_it_has_moved(replay: FakeReplay) -> None:
    line = Lifeline("tcp://127.0.0.1:9", patience_seconds=60.0)
    asking = Client(line, "verifier-1", "verifier")
    answers: list[Message] = []
    thread = threading.Thread(target=lambda: answers.append(asking.request("status")))
    thread.start()
    line.told(replay.endpoint)
    thread.join(30)
    assert answers[0].kind == "reply" and asking.address == replay.endpoint
    asking.close()


@pytest.mark.usefixtures("impatient")
def test_patience_ends_by_an_error_that_names_the_replay(replay: FakeReplay) -> None:
    replay.reply = None
    asking = Client(replay.endpoint, "verifier-1", "verifier", patience_seconds=0.5)
    with pytest.raises(PeerTimeoutError, match=rf"{replay.endpoint} did not answer status within 0.5 s"):
        asking.request("status")
    asking.close()


def test_a_replay_that_ended_is_asked_again_as_soon_as_it_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "REPLY_SECONDS", 1000.0)
    first = FakeReplay()
    first.reply = None
    port = int(first.endpoint.rpartition(":")[2])
    asking = Client(first.endpoint, "learner", "learner", patience_seconds=600.0)
    answers: list[Message] = []
    thread = threading.Thread(target=lambda: answers.append(asking.request("status")), daemon=True)
    thread.start()
    assert until(lambda: len(first.bodies) == 1, 30)
    first.close()
    second = FakeReplay(port)
    thread.join(60)
    assert len(answers) == 1, "it waited for the answer of the one that is gone"
    asking.close()
    second.close()


def test_a_replay_that_came_back_between_two_requests_is_asked_once() -> None:
    first = FakeReplay()
    asking = Client(first.endpoint, "learner", "learner", patience_seconds=600.0)
    asking.request("status")
    first.close()
    second = FakeReplay(int(first.endpoint.rpartition(":")[2]))
    assert until(lambda: asking.request("status").kind == "reply", 30)
    asking.request("directory")
    assert len(second.bodies) == 2
    asking.close()
    second.close()


def test_closing_a_client_ends_what_waits_for_a_replay_that_is_gone() -> None:
    asking = Client("tcp://127.0.0.1:9", "generator-1", "generator", patience_seconds=600.0)
    ends: list[str] = []

    def ask(kind: str) -> None:
        with pytest.raises(PeerTimeoutError, match=f"had not answered {kind} when this process ended") as error:
            asking.request(kind)
        ends.append(str(error.value))

    threads = [threading.Thread(target=ask, args=(kind,)) for kind in ("submit", "renew")]
    for thread in threads:
        thread.start()
    asking.close()
    for thread in threads:
        thread.join(30)
    assert len(ends) == 2


def test_a_service_is_announced_with_every_heartbeat(replay: FakeReplay, beating: Beating) -> None:
    heart = beating(0.05)
    heart.announce("weights", "tcp://10.0.0.1:1")
    assert until(lambda: [b["services"] for b in replay.bodies[-2:]] == 2 * [{"weights": "tcp://10.0.0.1:1"}], 30)
