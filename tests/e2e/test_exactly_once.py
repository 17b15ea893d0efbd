"""After any history of crashes the weights are those of training the journal's committed batches in order."""

import random
from pathlib import Path

import pytest

from tests.e2e.exactly_once import check_law, torment

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def test_weights_after_random_kills_are_those_of_the_committed_batches(tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")  # shown where it fails
    run = torment(tmp_path / "run", steps=16, kills=4, seed=seed)
    assert check_law(run, seed) >= 4
