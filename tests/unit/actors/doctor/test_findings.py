"""Checks that hang or break cost themselves alone."""

import subprocess
import sys
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

    def cannot() -> Finding:
        raise RuntimeError("CUDA driver\n  version is insufficient")

    try:
        checks = {"a": hangs, "b": breaks, "c": lambda: Finding(Fitness.OK, "well"), "d": cannot}
        found = examine(checks, seconds=0.2)
    finally:
        free.set()
    assert [found[name].fitness for name in "abcd"] == ["failed", "failed", "ok", "failed"]
    assert found["a"].measured == "no answer within 0.2 s"
    assert found["b"].measured == "no such port"
    assert found["d"].measured == "RuntimeError: CUDA driver version is insufficient"
    assert all(found[name].advice for name in "abd")


def test_a_check_that_hangs_for_ever_does_not_keep_the_program_from_ending() -> None:
    program = (
        "import threading; from actors.doctor.findings import examine\n"
        "found = examine({'network': lambda: threading.Event().wait()}, seconds=0.1)\n"
        "print(found['network'].measured, found['network'].advice)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "no answer within 0.1 s" in ended.stdout and "network" in ended.stdout
