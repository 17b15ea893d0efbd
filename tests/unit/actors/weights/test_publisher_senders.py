"""Who gets weights where other ranks send some of them, and come, fail and go. Nothing is broadcast."""

from actors.deadline import until
from tests.unit.actors.weights.publisher_world import PATIENCE, Begin, world

__all__ = ["world"]  # the fixture


def test_nobody_gets_weights_before_every_sender_is_there(world: Begin) -> None:
    w = world(senders=("rank-1", "rank-2"))
    generator, first = w.generator("a"), w.sender("rank-1")
    w.publish(0)
    assert until(lambda: w.publisher.registered == {"a", "rank-1"}, PATIENCE)
    assert not w.publisher.wait(0, 0.2)
    assert generator.asked == first.asked == []
    second = w.sender("rank-2")
    assert w.publisher.wait(0, PATIENCE)
    assert generator.opened[-1]["meet_at"] == ["[::1]:2"] * 2
    assert first.asked == second.asked == ["open", "start", "describe", "update", "finish"]
    assert until(lambda: bool(w.syncs), PATIENCE)
    assert w.syncs[-1].bytes == 4 + 2 * 8 and w.syncs[-1].members == 1


def test_a_sender_that_falls_off_the_list_breaks_the_update_and_is_waited_for(world: Begin) -> None:
    w = world(senders=("rank-1",))
    generator, sender = w.generator("a"), w.sender("rank-1")
    w.publish(0)
    assert w.publisher.wait(0, PATIENCE)
    sender.suspended = True
    w.publish(1)
    assert until(lambda: len(sender.asked) > 5, PATIENCE)
    w.alive.discard("rank-1")
    assert until(lambda: sender.asked[-1] == "rejoin", PATIENCE)
    assert until(lambda: generator.asked[-1] == "abort", PATIENCE)
    assert generator.versions == [0]
    assert not w.publisher.wait(1, 0.2)
    sender.suspended = False
    sender.register()
    w.alive.add("rank-1")
    assert w.publisher.wait(1, PATIENCE)
    assert generator.versions == [0, 1] and generator.registrations == 1


def test_a_broadcast_that_breaks_at_a_sender_has_all_generators_register_anew(world: Begin) -> None:
    """Whose fault it was is not known; one that has died does not come back."""
    w = world(senders=("rank-1",))
    first, second, sender = w.generator("a"), w.generator("b"), w.sender("rank-1")
    w.publish(0)
    assert until(lambda: (first.versions, second.versions) == ([0], [0]), PATIENCE)
    second.deaf = True
    sender.fails.add("finish")
    w.publish(1)
    assert until(lambda: first.asked[-1] == second.asked[-1] == "rejoin" or first.registrations > 1, PATIENCE)
    sender.fails.clear()
    assert until(lambda: first.versions == [0, 1], PATIENCE)
    assert second.versions == [0] and sender.registrations == 1


def test_a_version_that_a_sender_holds_no_longer_is_passed_over(world: Begin) -> None:
    w = world(senders=("rank-1",))
    generator, sender = w.generator("a"), w.sender("rank-1")
    sender.newest = 1
    w.publish(0)
    assert until(lambda: sender.asked.count("start") > 1, PATIENCE)
    assert generator.asked == ["open"]
    w.publish(1)
    assert w.publisher.wait(1, PATIENCE)
    assert generator.versions == [1] and "abort" not in generator.asked
