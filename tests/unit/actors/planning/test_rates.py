"""What the speeds of a plan are taken from."""

from pathlib import Path

import pytest

from actors.config.loading import load
from actors.planning.architectures import architecture
from actors.planning.rates import Assumptions, Rates, rates_of
from actors.weights.bandwidth import Bandwidth

RECIPE = Path(__file__).parents[4] / "recipes" / "r1-qwen2.5-7b.yaml"


def planned(output: Path, senders: int) -> Rates:
    recipe = load(RECIPE, [f"output={output}", f"weights.senders={senders}"])
    return rates_of(recipe, architecture(recipe.model), Assumptions())


def test_of_a_slow_path_several_senders_are_several_and_the_plan_says_so(tmp_path: Path) -> None:
    Bandwidth(bytes_per_second=10e9, message_bytes=2**20, measured="nccl-tests").write(tmp_path)
    one, four, eight = (planned(tmp_path, senders) for senders in (1, 4, 8))
    assert one.transfer_seconds == pytest.approx(4 * four.transfer_seconds)
    assert one.transfer_seconds == pytest.approx(5 * eight.transfer_seconds), "a generator takes in 50 GB/s"
    assert one.origin[-1] == "weights: one broadcast at 10 GB/s, measured by nccl-tests"
    assert "4 senders at once, 10 GB/s each" in four.origin[-1]
    assert eight.origin[-1].endswith("takes in all of it, and no more than 50 GB/s: 5 times as fast as one")


def test_where_links_are_alike_several_senders_save_no_time_and_the_plan_says_so(tmp_path: Path) -> None:
    one, four = (planned(tmp_path, senders) for senders in (1, 4))
    assert one.transfer_seconds == four.transfer_seconds
    assert four.origin[-1].endswith("no more than 50 GB/s: 1 times as fast as one")
