"""Who gets weights, when generators come, fail, fall off the list of members and come back. Nothing is broadcast."""

import pytest

from actors.deadline import until
from actors.errors import RunError
from actors.observability import metrics
from actors.transport.codec import Message, decode, encode
from actors.transport.sockets import DealerSocket
from actors.weights.messages import MAX_BYTES
from tests.unit.actors.weights.publisher_world import PATIENCE, Begin, FakeTransport, world

__all__ = ["world"]  # the fixture


def test_every_worker_of_every_generator_has_a_rank_of_its_own(world: Begin) -> None:
    w = world()
    first, second = w.generator("a", workers=2), w.generator("b", workers=3)
    assert until(lambda: len(w.publisher.registered) == 2, PATIENCE)
    w.publish(0)
    assert w.publisher.wait(0, PATIENCE)
    assert (first.opened[-1]["rank_offset"], second.opened[-1]["rank_offset"]) == (1, 3)
    assert first.opened[-1]["world_size"] == 6
    assert until(lambda: bool(w.syncs), PATIENCE)
    assert w.syncs[-1].members == 2


def test_a_generator_that_falls_off_the_list_is_skipped_and_served_again_once_it_is_back(world: Begin) -> None:
    w = world()
    first, second = w.generator("a"), w.generator("b")
    w.publish(0)
    assert until(lambda: (first.versions, second.versions) == ([0], [0]), PATIENCE)
    w.alive.discard("b")
    w.publish(1)
    assert w.publisher.wait(1, PATIENCE), "who is off the list is not waited for"
    assert (first.versions, second.versions) == ([0, 1], [0])
    w.alive.add("b")
    assert until(lambda: second.versions == [0, 1], PATIENCE)
    assert first.versions == [0, 1]
    assert second.registrations == 1, "it did not have to register anew"


def test_an_update_stops_waiting_for_whoever_falls_off_the_list(world: Begin) -> None:
    w = world()
    first, second = w.generator("a"), w.generator("b")
    w.publish(0)
    assert until(lambda: (first.versions, second.versions) == ([0], [0]), PATIENCE)
    second.suspended = True
    w.publish(1)
    assert until(lambda: len(second.asked) > 4, PATIENCE), "of the update before: open, start, update, finish"
    w.alive.discard("b")
    assert w.publisher.wait(1, PATIENCE)
    assert first.versions == [0, 1]
    assert until(lambda: second.asked[-1] == "rejoin", PATIENCE), "it is told to register anew when it comes back"
    assert first.asked[-5:] == ["abort", "open", "start", "update", "finish"], "the other gave the update up"
    assert first.registrations == 1


def test_whoever_has_just_registered_need_not_be_on_the_list_yet(world: Begin) -> None:
    w = world()
    generator = w.generator("a", listed=False)
    w.publish(0)
    assert until(lambda: generator.versions == [0], PATIENCE)


def test_whoever_fell_off_the_list_and_registers_anew_holds_up_nobody_before_it_is_back(world: Begin) -> None:
    """Its word to the learner comes through, and its heartbeats do not: it is no newcomer, who gets time for that."""
    w = world()
    first, second = w.generator("a"), w.generator("b")
    w.publish(0)
    assert until(lambda: (first.versions, second.versions) == ([0], [0]), PATIENCE)
    w.alive.discard("b")
    again = w.generator("b", listed=False)
    assert until(lambda: w.publisher._participants.registered["b"].version is None, PATIENCE)
    w.publish(1)
    assert w.publisher.wait(1, PATIENCE)
    assert first.versions == [0, 1]
    assert again.asked == []
    w.alive.add("b")
    assert until(lambda: again.versions == [1], PATIENCE)


def test_whoever_never_comes_on_the_list_gets_nothing_after_the_timeout(world: Begin) -> None:
    w = world(0.0)
    stranger, known = w.generator("stranger", listed=False), w.generator("known")
    w.publish(0)
    assert until(lambda: known.versions == [0], PATIENCE)
    assert w.publisher.wait(0, PATIENCE)
    assert stranger.versions == []


def test_whoever_fails_in_an_update_is_evicted_and_served_after_it_has_registered_anew(world: Begin) -> None:
    w = world()
    first, second = w.generator("a"), w.generator("b")
    second.fails.add("finish")
    w.publish(0)
    assert until(lambda: "rejoin" in second.asked, PATIENCE)
    assert until(lambda: first.versions[-1:] == [0], PATIENCE)
    second.fails.clear()
    assert until(lambda: second.versions == [0], PATIENCE)
    assert second.registrations >= 2


def test_a_broadcast_that_does_not_end_holds_up_only_whoever_fell_off_the_list(world: Begin) -> None:
    """A rank that has stopped in the middle of one blocks the sender, which nothing can interrupt."""
    w = world()
    first, second = w.generator("a"), w.generator("b")
    w.publish(0)
    assert until(lambda: (first.versions, second.versions) == ([0], [0]), PATIENCE)
    FakeTransport.stuck.set()
    w.publish(1)
    assert until(lambda: first.asked[-1] == second.asked[-1] == "update", PATIENCE)
    w.alive.discard("b")
    assert w.publisher.wait(1, PATIENCE)
    assert first.versions == [0, 1]
    FakeTransport.freed.set()
    w.alive.add("b")
    assert until(lambda: second.versions == [0, 1], PATIENCE)
    assert first.versions == [0, 1], "nothing more came of the update that was left behind"


def test_a_broadcast_that_does_not_end_after_all_ends_the_learner_with_the_names(world: Begin) -> None:
    w = world(deadline_seconds=1.0)
    FakeTransport.stuck.set()
    first, second = w.generator("a"), w.generator("b")
    assert until(lambda: len(w.publisher.registered) == 2, PATIENCE)
    w.publish(0)
    assert until(lambda: first.asked[-1:] == second.asked[-1:] == ["update"], PATIENCE)
    w.alive.discard("b")

    def refused() -> bool:
        try:
            w.publish(1)
        except RunError as error:
            return "to a, b does not end" in str(error)
        return False

    assert until(refused, PATIENCE)


def test_a_generator_that_fails_every_time_holds_up_nobody(world: Begin) -> None:
    w = world()
    first, second = w.generator("a"), w.generator("b")
    second.fails.add("start")
    assert until(lambda: len(w.publisher.registered) == 2, PATIENCE)
    for version in range(6):
        w.publish(version)
        assert until(lambda version=version: first.versions[-1:] == [version], PATIENCE)  # type: ignore[misc]
    assert first.opened[-1]["world_size"] == 2, "they are in one epoch no more"
    assert first.asked.count("abort") <= 2
    second.fails.clear()
    assert until(lambda: second.versions[-1:] == [5], PATIENCE)


def test_a_registration_that_is_repeated_changes_nothing(world: Begin) -> None:
    w = world()
    generator, other = w.generator("a"), w.generator("b")
    assert until(lambda: len(w.publisher.registered) == 2, PATIENCE)
    w.publish(0)
    assert until(lambda: (generator.versions, other.versions) == ([0], [0]), PATIENCE)
    generator.register()
    w.publish(1)
    assert until(lambda: (generator.versions, other.versions) == ([0, 1], [0, 1]), PATIENCE)
    assert generator.asked.count("open") == 1, "the epoch went on"


def test_who_did_not_hear_of_its_eviction_is_back_once_it_says_that_it_is_there(world: Begin) -> None:
    w = world()
    generator = w.generator("a")
    generator.deaf, generator.fails = True, {"finish"}
    w.publish(0)
    assert until(lambda: "rejoin" in generator.asked, PATIENCE)
    generator.fails = set()
    generator.register()
    assert until(lambda: generator.versions == [0], PATIENCE)


def test_the_farewell_of_an_earlier_connection_evicts_nobody(world: Begin) -> None:
    """A generator that follows the learner anew may have registered before the end of the one before is heard of."""
    w = world()
    earlier = w.generator("a")
    w.publish(0)
    assert until(lambda: earlier.versions == [0], PATIENCE)
    later = w.generator("a")
    assert until(lambda: later.versions == [0], PATIENCE)
    earlier.send("deregister", 0, {})
    w.publish(1)
    assert until(lambda: later.versions == [0, 1], PATIENCE)


def test_only_the_newest_version_is_sent(world: Begin) -> None:
    w = world()
    for version in range(5):
        w.publish(version)
    generator = w.generator("a")
    assert w.publisher.wait(4, PATIENCE)
    assert generator.versions == [4]


@pytest.mark.parametrize(
    "frames",
    [
        [b"noise"],
        encode(Message("register", 7, {"name": "x"})),
        encode(Message("register", 7, {"name": "x", "workers": 0})),
        encode(Message("beat", 7, {"name": "x"})),
        encode(Message("answer", 7, {"name": "x", "pause_seconds": "long"})),
    ],
)
def test_a_malformed_message_is_refused_and_ends_nothing(world: Begin, frames: list[bytes]) -> None:
    w = world()
    before = metrics.WEIGHT_MALFORMED._value.get()
    rude = DealerSocket(w.publisher.endpoint, MAX_BYTES)
    rude.send(frames)
    assert rude.poll(PATIENCE)
    assert decode(rude.receive(), MAX_BYTES).kind == "error"
    rude.close()
    assert metrics.WEIGHT_MALFORMED._value.get() == before + 1
    generator = w.generator("a")
    w.publish(0)
    assert until(lambda: generator.versions == [0], PATIENCE)
