"""Pools on their way to another size."""

import time
from pathlib import Path

import pytest

from actors.config.loading import load
from actors.control.scaling import FILE, GRACE_SECONDS, Scaling
from actors.control.supervisor import Supervisor
from actors.errors import RecipeError
from actors.roles.role import Storage
from tests.unit.actors.control.fake_starter import FakeStarter

QUICKSTART = Path(__file__).parents[4] / "recipes" / "quickstart.yaml"
RECIPE = load(QUICKSTART)


class Pools:
    """A supervisor of fakes with one generator and one verifier, both up."""

    def __init__(self, folder: Path) -> None:
        self.starter = FakeStarter()
        self.supervisor = Supervisor(RECIPE, Storage(folder), self.starter)
        self.scaling = Scaling(RECIPE, folder)
        self.come_up(self.step(0.0)[0])

    def step(self, now: float) -> tuple[list[str], list[str]]:
        started, late = self.scaling.step(self.supervisor, now)
        return [process.name for process in started], late

    def come_up(self, names: list[str]) -> None:
        for name in names:
            self.supervisor.came_up(name)

    def there(self, role: str) -> list[str]:
        return [p.name for p in self.supervisor.processes() if p.role == role]


@pytest.fixture
def pools(tmp_path: Path) -> Pools:
    return Pools(tmp_path)


def test_a_pool_begins_with_what_the_recipe_says(pools: Pools) -> None:
    assert (pools.there("generator"), pools.there("verifier")) == (["generator-1"], ["verifier-2"])
    assert pools.step(1.0) == ([], [])


def test_what_the_controller_sees_changes_the_pools_within_their_bounds(tmp_path: Path) -> None:
    overrides = ["preferences.reward_model=/reward", "autoscale.scorers.max=2", "autoscale.hold_seconds=0"]
    recipe = load(QUICKSTART, [*overrides, "replay.groups_per_batch=4"])
    scaling = Scaling(recipe, tmp_path)
    groups = {"in_flight": 20, "ready": 0, "delivered": 0}
    status = {"queues": {"generated": 12, "ready": 0}, "groups": groups}
    members = [{"role": "generator", "report": {"groups_in_flight": 4}}]
    busy = {"generator": 1.0, "verifier": 1.0, "learner": 0.1, "scorer": 0.95}
    scaling.follow(status, busy, members, now=1.0)
    assert scaling.wanted == {"generator": 1, "verifier": 1, "scorer": 2}
    scaling.follow(status, busy, members, now=2.0)
    assert scaling.wanted["scorer"] == 2, "no more than the recipe allows"


def test_scorers_are_a_pool_where_there_is_a_reward_model(tmp_path: Path) -> None:
    recipe = load(QUICKSTART, ["preferences.reward_model=/reward", "scorers.count=2"])
    scaling, supervisor = Scaling(recipe, tmp_path), Supervisor(recipe, Storage(tmp_path), FakeStarter())
    assert scaling.wanted == {"generator": 1, "verifier": 1, "scorer": 2}
    started, _ = scaling.step(supervisor, 0.0)
    assert [process.name for process in started] == ["generator-1", "verifier-2", "scorer-3", "scorer-4"]
    for process in started:
        supervisor.came_up(process.name)
    assert scaling.want("scorer", 1)["scorer"] == 1
    scaling.step(supervisor, 1.0)
    assert scaling.leaving == {"scorer-4"}
    with pytest.raises(RecipeError, match="between 1"):
        scaling.want("scorer", 0)
    assert Scaling(recipe, tmp_path, midway=True).wanted["scorer"] == 1
    assert "scorer" not in Scaling(RECIPE, tmp_path, midway=True).wanted, "a resume has left the reward model out"


def test_a_pool_grows_at_once(pools: Pools) -> None:
    assert pools.scaling.want("generator", 3) == {"generator": 3, "verifier": 1}
    assert pools.step(1.0) == (["generator-3", "generator-4"], [])
    assert pools.step(2.0) == ([], []), "those that have not come up count"


def test_the_newest_leave_first_finish_what_they_have_and_are_not_replaced(pools: Pools) -> None:
    pools.scaling.want("generator", 3)
    pools.come_up(pools.step(1.0)[0])
    pools.scaling.want("generator", 1)
    assert pools.step(2.0) == ([], [])
    assert [p.drained for p in pools.starter.of("generator")] == [False, True, True]
    assert not any(p.stopped or p.killed for p in pools.starter.of("generator"))
    ended = {exit_.process.name for exit_ in pools.supervisor.exited(1.0)}
    assert ended == {"generator-3", "generator-4"}
    assert all(pools.scaling.left(name) for name in ended)
    assert not any(pools.scaling.left(name) for name in ended), "once"
    assert pools.step(3.0) == ([], [])
    assert pools.there("generator") == ["generator-1"]


def test_who_has_not_come_up_leaves_before_all_others(pools: Pools) -> None:
    pools.scaling.want("generator", 3)
    started, _ = pools.step(1.0)
    pools.come_up(started[1:])
    pools.scaling.want("generator", 2)
    pools.step(2.0)
    assert pools.scaling.leaving == {started[0]}


def test_who_does_not_leave_in_time_is_named(pools: Pools) -> None:
    pools.scaling.want("generator", 2)
    pools.come_up(pools.step(1.0)[0])
    pools.starter.of("generator")[1].obedient = False
    pools.scaling.want("generator", 1)
    assert pools.step(2.0) == ([], [])
    due = 2.0 + RECIPE.generators.drain_seconds + GRACE_SECONDS
    assert pools.step(due) == ([], [])
    assert pools.step(due + 0.1) == ([], ["generator-3"])


def test_a_verifier_and_a_scorer_may_take_as_long_as_a_group_may(tmp_path: Path) -> None:
    overrides = ["preferences.reward_model=/reward", "verifiers.count=2", "scorers.count=2"]
    recipe = load(QUICKSTART, [*overrides, "verifiers.deadline_seconds=70", "replay.verify_lease_seconds=90"])
    scaling, starter = Scaling(recipe, tmp_path), FakeStarter()
    supervisor = Supervisor(recipe, Storage(tmp_path), starter)
    for process in scaling.step(supervisor, 0.0)[0]:
        supervisor.came_up(process.name)
    for pool in ("verifier", "scorer"):
        starter.of(pool)[1].obedient = False
        scaling.want(pool, 1)
    assert scaling.step(supervisor, 1.0) == ([], [])
    due = 1.0 + 70.0 + GRACE_SECONDS
    assert scaling.step(supervisor, due) == ([], [])
    assert {name.partition("-")[0] for name in scaling.step(supervisor, due + 0.1)[1]} == {"verifier", "scorer"}


def test_one_that_is_wanted_again_while_another_leaves_is_started(pools: Pools) -> None:
    pools.starter.of("generator")[0].obedient = False
    pools.scaling.want("generator", 0)
    assert pools.step(1.0) == ([], [])
    pools.scaling.want("generator", 1)
    assert pools.step(2.0) == (["generator-3"], []), "who leaves cannot be called back"


def test_the_next_controller_of_the_run_knows_the_counts(pools: Pools, tmp_path: Path) -> None:
    pools.scaling.want("generator", 5)
    assert Scaling(RECIPE, tmp_path, midway=True).wanted == {"generator": 5, "verifier": 1}
    (tmp_path / FILE).write_text("{")
    assert Scaling(RECIPE, tmp_path, midway=True).wanted == {"generator": 1, "verifier": 1}


def test_the_next_controller_of_the_run_knows_who_is_leaving(pools: Pools, tmp_path: Path) -> None:
    pools.scaling.want("generator", 4)
    pools.come_up(pools.step(1.0)[0])
    _, hurt, leaving, gone = pools.starter.of("generator")
    leaving.obedient = False
    pools.scaling.want("generator", 2)
    pools.step(2.0)
    pools.scaling.left(gone.context.name)
    hurt.die("killed")
    leaving.drained = False

    pools.supervisor = Supervisor(RECIPE, Storage(tmp_path), pools.starter)
    pools.scaling = Scaling(RECIPE, tmp_path, midway=True)
    assert pools.scaling.adopted(pools.supervisor.adopt(), 100.0) == {"generator": 1}
    assert leaving.drained, "the controller before may have died before it could say so"
    assert len(pools.step(101.0)[0]) == 1, "in the place of the one that died"
    assert pools.scaling.leaving == {leaving.context.name}
    due = 100.0 + RECIPE.generators.drain_seconds + GRACE_SECONDS
    assert pools.step(due + 0.1) == ([], [leaving.context.name])
    assert pools.scaling.left(leaving.context.name), "its end is no death"


def test_a_run_that_resumes_begins_with_the_counts_of_its_recipe(pools: Pools, tmp_path: Path) -> None:
    pools.scaling.want("generator", 5)
    assert Scaling(RECIPE, tmp_path).wanted == {"generator": 1, "verifier": 1}
    assert not (tmp_path / FILE).exists()


def test_an_empty_place_is_given_up_before_anybody_has_to_leave(pools: Pools) -> None:
    pools.scaling.want("generator", 2)
    pools.step(1.0)
    pools.supervisor.vacancies.add("generator", "generator-3")
    broken = next(p for p in pools.supervisor.processes() if p.name == "generator-3")
    pools.supervisor.end(broken.name, "its GPU is broken")
    pools.scaling.want("generator", 1)
    assert pools.step(2.0) == ([], [])
    assert pools.there("generator") == ["generator-1"] and not pools.starter.of("generator")[0].drained
    assert pools.supervisor.vacant("generator") == 0


@pytest.mark.parametrize(
    ("pool", "count", "why"),
    [
        ("learner", 2, "no pool"),
        ("generator", -1, "between 0"),
        ("verifier", 0, "between 1"),
        ("verifier", 10**6, "1 and"),
        ("scorer", 2, "scorer is no pool of this run"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(pools: Pools, pool: str, count: int, why: str) -> None:
    with pytest.raises(RecipeError, match=why):
        pools.scaling.want(pool, count)
    assert pools.step(time.monotonic()) == ([], [])
