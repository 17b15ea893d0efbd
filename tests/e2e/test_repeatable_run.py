"""The roles of a synchronous run in one process, twice: what is trained does not depend on when anything happened."""

import threading
from pathlib import Path

from actors.config.loading import load
from actors.deadline import until
from actors.models import prepare
from actors.roles.role import RoleContext, Storage, build

ROOT = Path(__file__).parents[2]
SMALL = [
    "generators.engine=transformers",
    "cold_start=null",
    "steps=4",
    "tasks.held_out=8",
    "evaluation={every_steps: 0, samples: 2}",
    "replay={max_staleness: 0, groups_per_batch: 4, group_size: 4}",  # groups without a signal are dropped and replaced
    "generators.groups_in_flight=4",
    "generators.sampling.max_tokens=24",
    "checkpoint_every_steps=0",
    "rewards={overlong_max_tokens: 20, overlong_cache_tokens: 20, weights: {accuracy: 1, overlong: 1}}",
    "learner.objective.name=grpo",
]


def trained(folder: Path, models: Path, late: str) -> bytes:
    """The weights that a run ends with; one of its roles begins after the others are up."""
    recipe = load(ROOT / "recipes" / "quickstart.yaml", [*SMALL, f"output={folder}"])
    storage = Storage(folder, prepare(recipe.model, models, recipe.seed))
    replay = build("replay", RoleContext(recipe, "replay", storage))
    address = replay.describe().address
    roles = {name: build(name, RoleContext(recipe, name, storage, address)) for name in ("generator", "verifier")}
    roles["learner"] = build("learner", RoleContext(recipe, "learner", storage, address))
    threads = {
        name: threading.Thread(target=role.run, daemon=True) for name, role in {**roles, "replay": replay}.items()
    }
    for name in sorted(threads, key=lambda name: name == late):
        threads[name].start()
    ended = until(lambda: not threads["learner"].is_alive(), 300)
    for role in (*roles.values(), replay):
        role.stop()
    for thread in threads.values():
        thread.join(60)
    assert ended, "the learner did not come to its end"
    return (folder / "model" / "model.safetensors").read_bytes()


def test_a_synchronous_run_can_be_repeated_bit_by_bit(tmp_path: Path) -> None:
    first, second = (trained(tmp_path / late, tmp_path / "models", late) for late in ("generator", "verifier"))
    assert first == second
