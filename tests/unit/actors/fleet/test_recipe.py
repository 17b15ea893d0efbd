"""The recipe of a fleet."""

from pathlib import Path

from actors.fleet.recipe import fleet_recipe


def test_the_recipe_of_a_fleet_is_one_that_can_run(tmp_path: Path) -> None:
    recipe = fleet_recipe(tmp_path, [("generators.count", 1000), ("replay.max_staleness", 0)])
    assert (recipe.generators.count, recipe.replay.max_staleness, recipe.output) == (1000, 0, tmp_path)
    assert fleet_recipe(tmp_path).generators.count == 1
