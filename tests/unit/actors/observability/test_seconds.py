"""Seconds that are counted while they pass."""

import threading

from prometheus_client import CollectorRegistry

from actors.observability.seconds import SecondsCounter


def counter() -> tuple[SecondsCounter, CollectorRegistry]:
    registry = CollectorRegistry(auto_describe=True)
    return SecondsCounter("leeway_test_seconds", "A test", "on", registry), registry


def test_what_is_under_way_counts_before_it_ends() -> None:
    seconds, registry = counter()
    with seconds.counted("lease"):
        first = seconds.seconds("lease")
        while seconds.seconds("lease") == first:
            pass
        assert (registry.get_sample_value("leeway_test_seconds_total", {"on": "lease"}) or 0) > 0
    ended = seconds.seconds("lease")
    assert ended == seconds.seconds("lease") > first


def test_threads_under_one_label_count_once() -> None:
    seconds, _ = counter()
    inside, leave = threading.Barrier(3), threading.Event()

    def work() -> None:
        with seconds.counted("lease"):
            inside.wait(10)
            leave.wait(10)

    threads = [threading.Thread(target=work) for _ in range(2)]
    with seconds.counted("all"):
        for thread in threads:
            thread.start()
        inside.wait(10)
        leave.set()
        for thread in threads:
            thread.join(10)
    assert 0 < seconds.seconds("lease") <= seconds.seconds("all")


def test_a_label_is_there_from_the_start() -> None:
    seconds, registry = counter()
    seconds.begin_at_zero("lease")
    assert registry.get_sample_value("leeway_test_seconds_total", {"on": "lease"}) == 0
