"""The supervisor: how often it replaces whom, and what becomes of a place that stays empty."""

import pytest

from actors.errors import RunError
from tests.unit.actors.control.fake_starter import FakeStarter, die, started, supervisor


def test_restarts_count_within_a_window_of_time() -> None:
    """A run that takes weeks may lose a machine now and then."""
    starter, now = FakeStarter(), [0.0]
    limits = ("controller.restarts=2", "controller.restart_window_seconds=100")
    watched = supervisor(starter, *limits, clock=lambda: now[0])
    watched.came_up(watched.start("verifier").name)
    for day in range(6):
        now[0] = 60.0 * day
        watched.came_up(started(watched.replace(die(watched, starter, "preempted"))).name)
    now[0] += 1
    with pytest.raises(RunError, match=r"preempted.* after 2 restarts within 100 s.*controller\.restarts"):
        watched.replace(die(watched, starter, "preempted"))
    assert watched.restarts == 6


# ---------------------------------------------------------------- processes that never come up


@pytest.mark.parametrize("count", [1, 3])
def test_a_first_start_that_fails_ends_the_run_at_once(count: int) -> None:
    starter = FakeStarter()
    watched = supervisor(starter)
    for _ in range(count):
        watched.start("generator")
    with pytest.raises(
        RunError, match=r"generator-\d did not come up: ValueError: block_size; see .*generator-\d\.log"
    ):
        watched.replace(die(watched, starter, "ValueError: block_size"))
    assert len(starter.started) == count


def test_one_more_than_a_run_whose_workers_all_join_has_ends_nothing_where_it_does_not_come_up() -> None:
    starter = FakeStarter()
    watched = supervisor(starter, "generators.count=0", "network.joining=[generator]")
    watched.start("generator")
    assert watched.replace(die(watched, starter, "CUDA out of memory")) == []
    assert watched.vacant("generator") == 1, "it is tried again later"


def test_a_replacement_that_fails_to_start_is_tried_once_more_and_then_the_run_ends() -> None:
    starter = FakeStarter()
    watched = supervisor(starter)
    watched.came_up(watched.start("generator").name)
    for _ in range(2):  # the one that was up, and the first that did not come up
        started(watched.replace(die(watched, starter, "CUDA out of memory")))
    with pytest.raises(RunError, match="generator-3 did not come up: CUDA out of memory"):
        watched.replace(die(watched, starter, "CUDA out of memory"))


def test_one_that_is_killed_while_it_comes_up_is_replaced_for_as_long_as_there_are_restarts() -> None:
    starter = FakeStarter()
    watched = supervisor(starter, "controller.restarts=4")
    watched.came_up(watched.start("generator").name)
    for _ in range(4):
        starter.started[-1].vanished = True
        started(watched.replace(die(watched, starter, "killed")))
    starter.started[-1].vanished = True
    with pytest.raises(RunError, match=r"killed.* after 4 restarts"):
        watched.replace(die(watched, starter, "killed"))


def test_a_first_start_that_is_killed_is_tried_once_more_and_then_the_run_ends() -> None:
    starter = FakeStarter()
    watched = supervisor(starter)
    watched.start("generator")
    starter.started[-1].vanished = True
    started(watched.replace(die(watched, starter, "killed")))
    starter.started[-1].vanished = True
    with pytest.raises(RunError, match="did not come up: killed"):
        watched.replace(die(watched, starter, "killed"))


def test_where_others_are_up_the_place_of_one_that_does_not_start_stays_empty() -> None:
    starter = FakeStarter()
    watched = supervisor(starter)
    for _ in range(2):
        watched.came_up(watched.start("generator").name)
    for _ in range(2):
        started(watched.replace(die(watched, starter, "no such device")))
    assert watched.replace(die(watched, starter, "no such device")) == []
    assert [p.name for p in watched.processes()] == ["generator-1"]
    assert watched.restarts == 2, "what cannot come up burns no restarts"
    # the last one that is up is replaced as ever
    watched.came_up(started(watched.replace(die(watched, starter, "preempted", number=0))).name)
    assert len(watched.processes()) == 1


def test_an_empty_place_is_tried_again_at_growing_intervals_until_it_is_filled() -> None:
    starter, now = FakeStarter(), [0.0]
    watched = supervisor(starter, "controller.retry_seconds=10", clock=lambda: now[0])
    for _ in range(2):
        watched.came_up(watched.start("generator").name)
    for _ in range(3):
        watched.replace(die(watched, starter, "no such device"))
    for wait in (10, 20, 40, 80, 160, 160):
        now[0] += wait - 1
        assert not watched.try_vacancies()
        now[0] += 1
        ((_, tried),) = watched.try_vacancies().items()
        assert watched.replace(die(watched, starter, "no such device")) == []
    now[0] += 160
    ((_, tried),) = watched.try_vacancies().items()
    watched.came_up(tried.name)
    assert watched.vacancies.count("generator") == 0
    assert started(watched.replace(die(watched, starter, "preempted"))).role == "generator"


# ---------------------------------------------------------------- incidents


def test_what_happens_to_many_at_once_counts_as_one_restart() -> None:
    starter, now = FakeStarter(), [0.0]
    watched = supervisor(starter, "controller.restarts=1", clock=lambda: now[0])
    for name in [watched.start("generator").name for _ in range(12)]:
        watched.came_up(name)
    now[0] = 100.0
    for name in [p.name for p in watched.processes()]:
        now[0] += 1.0
        watched.came_up(started(watched.replace(watched.end(name, "it was not heard of for 80 s"))).name)
    assert watched.restarts == 12
    # one that was started in the meantime, and dies as well, is an incident of its own
    with pytest.raises(RunError, match="after 1 restarts"):
        watched.replace(watched.end(watched.processes()[-1].name, "killed"))
