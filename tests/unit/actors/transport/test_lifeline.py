"""Whom a process depends on, and when it is alone."""

from actors.transport.lifeline import Lifeline


def test_who_is_heard_of_by_either_is_not_alone() -> None:
    line = Lifeline("tcp://127.0.0.1:1")
    assert line.alone(10.0) == 0.0, "at the start the time begins"
    for heard in (line.answered, lambda: line.told("")):
        assert line.alone(10.0) > 0
        heard()
        assert line.alone(10.0) == 0.0
    assert [line.alone(10.0) for _ in range(3)] == [10.0, 20.0, 30.0]


def test_the_replay_itself_depends_on_the_controller_alone() -> None:
    line = Lifeline("")
    line.alone(1.0)
    line.answered()
    assert line.alone(1.0) == 1.0
    line.told("tcp://127.0.0.1:1")
    assert line.alone(1.0) == 0.0


def test_a_replay_that_has_moved_is_told_and_one_that_is_not_known_stays_where_it_was() -> None:
    line = Lifeline("tcp://127.0.0.1:1")
    line.told("tcp://127.0.0.1:2")
    assert line.replay == "tcp://127.0.0.1:2"
    line.told("")
    assert line.replay == "tcp://127.0.0.1:2"
