"""What was measured before a run. The reports are written after nccl-tests' source: none was recorded on GPUs here."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.errors import RecipeError
from actors.weights.bandwidth import FILE, Bandwidth, bandwidth, of_nccl_tests

MIB = 2**20


def report(*sizes: tuple[int, float], nwrong: int | str = 0) -> bytes:
    def timing(alg_bw: float) -> dict[str, Any]:
        return {"time": 100.0, "alg_bw": alg_bw, "bus_bw": alg_bw, "nwrong": nwrong}

    rows = [
        {"size": size, "type": "float", "root": 0, "out_of_place": timing(speed), "in_place": timing(speed)}
        for size, speed in sizes
    ]
    return json.dumps({"env": {"SECRET_TOKEN": "do not tell"}, "results": rows}).encode()


def test_the_size_nearest_to_a_bucket_counts() -> None:
    found = of_nccl_tests(report((MIB, 3.0), (64 * MIB, 21.5), (1024 * MIB, 24.0)), 60 * MIB, "broadcast.json")
    assert (found.bytes_per_second, found.message_bytes) == (21.5e9, 64 * MIB)


def test_nothing_of_the_environment_is_kept(tmp_path: Path) -> None:
    of_nccl_tests(report((MIB, 3.0)), MIB, "broadcast.json").write(tmp_path)
    assert "do not tell" not in (tmp_path / FILE).read_text()


def test_values_that_arrive_wrong_are_refused() -> None:
    with pytest.raises(RecipeError, match="values arrived wrong at 1048576 bytes"):
        of_nccl_tests(report((MIB, 3.0), nwrong=2), MIB, "broadcast.json")
    assert of_nccl_tests(report((MIB, 3.0), nwrong="N/A"), MIB, "broadcast.json").bytes_per_second == 3e9


def test_a_report_without_a_measurement_is_refused() -> None:
    with pytest.raises(RecipeError, match="nothing was measured"):
        of_nccl_tests(report((MIB, 0.0)), MIB, "broadcast.json")
    with pytest.raises(RecipeError, match=r"broadcast\.json: is no JSON of nccl-tests \(at results"):
        of_nccl_tests(report(), MIB, "broadcast.json")


@given(st.binary(max_size=200) | st.recursive(st.none() | st.floats() | st.text(max_size=9), st.lists).map(
    lambda value: json.dumps({"results": value, "SECRET": "do not tell"}).encode()
))  # fmt: skip
def test_nonsense_is_one_line_that_tells_nothing_of_it(data: bytes) -> None:
    with pytest.raises(RecipeError) as error:
        of_nccl_tests(data, MIB, "broadcast.json")
    assert "\n" not in str(error.value) and "do not tell" not in str(error.value)


def test_a_run_reads_what_was_measured(tmp_path: Path) -> None:
    assert bandwidth(tmp_path) is None
    found = Bandwidth(bytes_per_second=2e9, message_bytes=MIB, measured="Gloo, one machine")
    found.write(tmp_path / "runs")
    assert bandwidth(tmp_path / "runs") == found
    (tmp_path / "runs" / FILE).write_text("{")
    assert bandwidth(tmp_path / "runs") is None
