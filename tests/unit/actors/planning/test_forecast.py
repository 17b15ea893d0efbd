"""What is said of a fleet, and every recipe of the repository."""

import math
from pathlib import Path

import pytest

from actors.config.loading import load
from actors.config.recipe import Recipe
from actors.errors import RecipeError
from actors.fleet.recipe import fleet_recipe
from actors.planning.architectures import architecture
from actors.planning.footprint import places
from actors.planning.forecast import Forecast, devices, fleet_of, forecast, scaled
from actors.planning.public import HARDWARE
from actors.planning.rates import Assumptions, hardware_of, rates_of

ROOT = Path(__file__).parents[4]
#: What fits of a model that is only planned: what a rank loads, a generator, and a host, whose memory is not known.
FIT = ("learner, loading", "generator", "host, first rank")
RECIPES = sorted(path for path in (ROOT / "recipes").glob("*.yaml") if "\nstages:" not in path.read_text())


def synthetic(step_seconds: float, **changes: object) -> tuple[Recipe, Forecast]:
    recipe = fleet_recipe(
        Path("/nowhere"),
        [("generators.synthetic.lengths", "lognormal"), ("generators.count", 16), ("replay.groups_per_batch", 16)]
        + [(name.replace("__", "."), value) for name, value in changes.items()],
    )
    rates = rates_of(recipe, architecture(recipe.model), Assumptions(step_seconds=step_seconds, verify_seconds=1e-4))
    return recipe, forecast(recipe, architecture(recipe.model), rates, recipe.generators.count)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_has_a_plan(path: Path) -> None:
    recipe = load(path)
    a = architecture(recipe.model)
    found = forecast(recipe, a, rates_of(recipe, a, Assumptions()), recipe.generators.count)
    assert 0 < found.groups_per_second < math.inf
    assert 0 < found.device_hours < math.inf
    assert found.staleness_mean <= found.staleness_max <= recipe.replay.max_staleness
    device = HARDWARE[hardware_of(recipe, Assumptions())].memory
    for place in places(recipe, a, gpu=device, core=device):
        assert all(0 <= count < math.inf for count in place.parts.values())
        assert place.fits == (path.stem != "r1-671b" or place.name in FIT)


def test_the_bottleneck_is_what_to_have_more_of() -> None:
    assert synthetic(20.0)[1].bottleneck == "learner"
    assert synthetic(0.1)[1].bottleneck == "generators"
    _, few = synthetic(0.1, generators__count=400, replay__max_staleness=1)
    assert few.bottleneck == "staleness bound"


def test_a_large_fleet_is_simulated_as_a_part_of_itself() -> None:
    recipe, small = synthetic(5.0, generators__count=512, replay__groups_per_batch=512)
    rates = rates_of(recipe, architecture(recipe.model), Assumptions(step_seconds=5.0))
    fleet = fleet_of(recipe, rates, 5120)
    part, k = scaled(fleet, 18)
    assert k == 1 == fleet.verifiers // 2
    recipe, large = synthetic(5.0, generators__count=5120, replay__groups_per_batch=5120, verifiers__count=20)
    assert large.groups_per_second == pytest.approx(10 * small.groups_per_second, rel=0.05)
    assert (part.generators, part.limits.groups_per_batch) == (5120, 512)


def test_a_synchronous_fleet_waits_for_its_longest_completion_and_the_plan_does_not_hang_on_one_draw() -> None:
    changes = {"replay__max_staleness": 0, "generators__synthetic__sigma": 0.8, "verifiers__count": 64}
    recipe, _ = synthetic(1.0, **changes)
    a = architecture(recipe.model)
    rates = rates_of(recipe, a, Assumptions(step_seconds=1.0, verify_seconds=1e-4))
    seeds = [forecast(recipe, a, rates, 16, seed).groups_per_second for seed in range(4)]
    assert max(seeds) < 1.06 * min(seeds)
    _, small = synthetic(1.0, **changes)
    _, large = synthetic(1.0, generators__count=96, replay__groups_per_batch=96, **changes)
    assert large.step_seconds > 1.2 * small.step_seconds, "of more completions the longest is longer"


def test_hours_are_those_of_all_devices() -> None:
    recipe = load(ROOT / "recipes" / "r1-qwen2.5-7b.yaml")
    assert devices(recipe, 8) == 16
    cpu = load(ROOT / "recipes" / "quickstart.yaml")
    assert devices(cpu, 2) == 2 + 1 + 0.5


def test_a_fleet_of_nobody_is_refused() -> None:
    with pytest.raises(RecipeError, match="nothing will ever be trained"):
        synthetic(1.0, generators__count=0)


def test_tasks_that_are_never_solved_are_said_to_be_too_hard() -> None:
    with pytest.raises(RecipeError, match="drop_zero_variance"):
        synthetic(1.0, generators__synthetic__pass_rate=0.0)


def test_hardware_that_nobody_knows_is_refused() -> None:
    with pytest.raises(RecipeError, match="h200"):
        hardware_of(load(RECIPES[0]), Assumptions(hardware="abacus"))
