"""Reports of nccl-tests as the doctor judges them."""

import json
from pathlib import Path

from actors.config.loading import load
from actors.doctor.findings import Finding, Fitness
from actors.doctor.network import judged
from actors.weights.bandwidth import bandwidth
from tests.unit.actors.doctor.test_preflight import QUICKSTART


def finding(output: Path, at_least: float, **speeds: float) -> Finding:
    timings = {name: {"size": 2**26, "out_of_place": {"alg_bw": speed}} for name, speed in speeds.items()}
    reports = {name: json.dumps({"results": [timing]}).encode() for name, timing in timings.items()}
    return judged(reports, load(QUICKSTART, [f"output={output}"]), at_least)


def test_one_sender_is_judged_by_what_it_carries(tmp_path: Path) -> None:
    assert finding(tmp_path, 20, learner=19.0).fitness is Fitness.FAILED
    assert bandwidth(tmp_path) is None, "what will not do is not kept"
    assert finding(tmp_path, 20, learner=21.0) == Finding(Fitness.OK, "21.00 GB/s at 64 MiB")


def test_of_several_the_slow_one_is_named_and_kept(tmp_path: Path) -> None:
    found = finding(tmp_path, 0, learner=40.0, first=41.0, second=12.0)
    assert found.fitness is Fitness.WARNING
    assert "waits for the stripe of second" in found.advice
    assert "learner: 40.00 GB/s" in found.measured and "second: 12.00 GB/s" in found.measured
    kept = bandwidth(tmp_path)
    assert kept is not None and kept.bytes_per_second == 12e9
    failed = finding(tmp_path, 20, learner=40.0, second=12.0)
    assert failed.fitness is Fitness.FAILED and failed.advice.startswith("second is the slowest, below --at-least 20")
    assert finding(tmp_path, 20, learner=40.0, second=39.0).fitness is Fitness.OK
