"""What each role asks of the cluster."""

import json
from pathlib import Path

import pytest

from actors.config.loading import load
from actors.config.recipe import Recipe
from actors.control.placement import Resources, processes, resources
from actors.errors import RecipeError

QUICKSTART = Path(__file__).parents[4] / "recipes" / "quickstart.yaml"
JUDGE = "{url: 'http://judge:8000/v1', model: m}"
ASKED = {
    role: {f"leeway-{role}": 1.0} for role in ("controller", "replay", "generator", "verifier", "scorer", "learner")
}


def recipe(address: str, asked: object) -> Recipe:
    return load(QUICKSTART, [f"ray.address={address}", f"ray.resources={json.dumps(asked)}"])


@pytest.mark.parametrize("role", sorted(ASKED))
def test_a_process_asks_a_cluster_that_is_joined_for_the_resources_of_its_role(role: str) -> None:
    assert resources(recipe("auto", ASKED), role).custom == ASKED[role]


def test_there_are_scorers_where_there_is_a_reward_model_and_something_to_score() -> None:
    settings = ["scorers={count: 2, cpus: 3, gpus: 0.5}"]
    with_model = load(QUICKSTART, ["preferences.reward_model=/reward", *settings])
    assert processes(with_model, "scorer") == 2
    assert resources(with_model, "scorer") == Resources(3.0, 0.5)
    assert with_model.cpus == load(QUICKSTART).cpus + 2 * 3
    for other in ([], ["preferences.reward_model=/reward", "steps=0"], [f"preferences.judge={JUDGE}"]):
        assert processes(load(QUICKSTART, [*other, *settings]), "scorer") == 0


def test_without_a_cluster_to_join_nobody_asks_for_what_ours_does_not_offer() -> None:
    assert resources(recipe("null", ASKED), "replay") == Resources()


@pytest.mark.parametrize("asked", [{"driver": {"a": 1}}, {"replay": {"a": 0}}])
def test_an_unknown_role_and_an_amount_of_nothing_are_refused(asked: object) -> None:
    with pytest.raises(RecipeError, match=r"ray\.resources"):
        recipe("auto", asked)
