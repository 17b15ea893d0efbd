"""Two real vLLM engines, one of which is suspended or killed at a step of a weight update that is chosen at random."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.weight_faults import ALL_STEPS, Trials

pytestmark = pytest.mark.e2e

SEED = random.SystemRandom().randrange(10**6)


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trials]:
    world = Trials(SEED, spare=True, models=Path(tmp_path_factory.mktemp("models")))
    try:
        world.start()
        yield world
    finally:
        world.close()


def test_the_other_has_the_new_version_and_so_has_the_first_or_its_replacement(trials: Trials) -> None:
    choice = random.Random(SEED)
    for action in ("suspend", "suspend", "kill"):
        step = choice.choice(ALL_STEPS)
        print(f"seed {SEED}: {action} at {step!r}")
        trial = trials.trial(step, action, last=True)
        assert trial.good, f"seed {SEED}: {trial}"
