"""The replay as a role: what it imports, and what it makes of a recipe."""

import subprocess
import sys
from pathlib import Path

from actors.config.loading import load
from actors.roles.replay import StreamTasks, limits_of
from actors.tasks import TaskStream

QUICKSTART = Path(__file__).parents[4] / "recipes" / "quickstart.yaml"


def test_the_replays_process_imports_neither_torch_nor_ray() -> None:
    program = (
        "import sys, actors.roles.replay; "
        "print([name for name in ('torch', 'ray', 'transformers', 'datasets') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_tasks_travel_with_their_source() -> None:
    recipe = load(QUICKSTART)
    stream = TaskStream(recipe.tasks, recipe.seed)
    tasks = StreamTasks(stream)
    assert tasks.held_out == len(stream.held_out)
    assert tasks.train(3)["source"] == stream.train(3).source == "addition:3"
    assert tasks.evaluate(0)["key"] == stream.held_out[0].key


def test_the_ledgers_bounds_are_the_recipes() -> None:
    recipe = load(QUICKSTART, ["replay.max_staleness=7", "replay.verify_attempts=5", "replay.lease_seconds=90"])
    limits = limits_of(recipe)
    assert (limits.max_staleness, limits.verify_attempts, limits.lease_seconds) == (7, 5, 90.0)
    assert limits.curriculum_floor == 1, "without a curriculum no task is passed over"


def test_the_curriculum_is_the_recipes() -> None:
    limits = limits_of(load(QUICKSTART, ["tasks.curriculum={floor: 0.2, half_life: 3}"]))
    assert (limits.curriculum_floor, limits.curriculum_half_life) == (0.2, 3.0)
