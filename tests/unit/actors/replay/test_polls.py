"""Open long polls: who is answered next, and who is not looked at."""

import math

from actors.replay import messages as m
from actors.replay.polls import Poll, Polls, Topic

LEASE: Topic = (m.Lease, 0)


def poll(worker: str, until: float = 1.0) -> Poll:
    return Poll(worker.encode(), 1, m.Lease(worker=worker, role="generator", version=0, capacity=1), until)


def first(polls: Polls, topic: Topic, skip: int = 0) -> str | None:
    found = polls.first(topic, skip)
    return found[1].request.worker if found else None


def test_whoever_has_waited_longest_is_next() -> None:
    polls = Polls()
    for worker in ("a", "b", "c"):
        polls.add(LEASE, poll(worker))
    assert (first(polls, LEASE), first(polls, LEASE, skip=1), polls.waiting(LEASE)) == ("a", "b", 3)
    found = polls.first(LEASE)
    assert found is not None
    polls.remove(found[0])
    polls.add(LEASE, poll("a"))
    assert [first(polls, LEASE, skip) for skip in range(4)] == ["b", "c", "a", None]


def test_a_poll_moves_to_what_its_worker_waits_for_now_and_the_newest_weights_come_first() -> None:
    polls = Polls()
    polls.add(LEASE, poll("a"))
    polls.add((m.Lease, 7), poll("b"))
    polls.add((m.LeaseVerification, 0), poll("v"))
    assert polls.topics()[0] == (m.Lease, 7)
    ((number, topic, _),) = polls.of("a")
    assert topic == LEASE
    polls.move(number, (m.Lease, 7))
    assert (first(polls, LEASE), polls.waiting((m.Lease, 7))) == (None, 2)
    assert polls.topics() == [(m.Lease, 7), (m.LeaseVerification, 0)]


def test_polls_end_in_time_and_only_those_that_are_open() -> None:
    polls = Polls()
    for worker, until in (("a", 3.0), ("b", 1.0), ("c", 2.0)):
        polls.add(LEASE, poll(worker, until))
    assert polls.next_deadline() == 1.0
    polls.remove(polls.of("c")[0][0])
    assert [p.request.worker for p in polls.over(2.5)] == ["b"]
    assert [p.request.worker for p in polls.over(3.0)] == ["a"]
    assert (len(polls), polls.next_deadline(), polls.topics()) == (0, math.inf, [])


def test_answered_polls_take_no_memory_until_their_deadline() -> None:
    polls = Polls()
    for _ in range(5000):
        polls.add(LEASE, poll("a", until=60.0))
        polls.remove(polls.of("a")[0][0])
    assert len(polls._deadlines) < 100
