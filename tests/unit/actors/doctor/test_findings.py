"""Checks that hang or break cost themselves alone."""

import threading

from actors.doctor.findings import Finding, Fitness, examine
from actors.errors import RunError


def test_a_check_that_hangs_or_breaks_is_said_and_the_others_run() -> None:
    free = threading.Event()

    def hangs() -> Finding:
        free.wait(60)
        return Finding(Fitness.OK, "late")

    def breaks() -> Finding:
        raise RunError("no such port")

    try:
        found = examine({"a": hangs, "b": breaks, "c": lambda: Finding(Fitness.OK, "well")}, seconds=0.2)
    finally:
        free.set()
    assert [found[name].fitness for name in "abc"] == ["failed", "failed", "ok"]
    assert found["a"].measured == "no answer within 0.2 s"
    assert found["b"].measured == "no such port"
