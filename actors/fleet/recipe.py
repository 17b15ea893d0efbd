"""The recipe of a synthetic fleet: sums of three digits, nothing that takes long but what is meant to."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from actors.config.loading import parse
from actors.config.recipe import Recipe

#: Faults are noticed within seconds, and no number of them ends the run.
_TREE: dict[str, Any] = {
    "name": "fleet",
    "steps": 10**6,
    "model": {"kind": "tiny"},
    "tasks": {"sources": [{"source": "addition", "digits": 3}], "template": "raw", "held_out": 16},
    "generators": {
        "engine": "synthetic",
        "groups_in_flight": 1,
        "cpus": 0,
        "startup_seconds": 120,
        "sampling": {"max_tokens": 4096},
        "synthetic": {"tokens_per_second": 100, "mean_tokens": 200, "lengths": "pareto", "pass_rate_spread": 0.3},
    },
    "replay": {
        "groups_per_batch": 64,
        "group_size": 4,
        "lease_seconds": 20,
        "verify_lease_seconds": 10,
        "generation_attempts": 20,
        "verify_attempts": 20,
    },
    "verifiers": {"count": 2, "cpus": 0, "deadline_seconds": 5},
    "sandbox": {"workers": 1},
    "learner": {"device": "cpu"},
    "weights": {"deadline_seconds": 10},
    "evaluation": {"every_steps": 0, "samples": 1},
    "checkpoint_every_steps": 5,
    "controller": {
        "restarts": 10**6,
        "hang_seconds": 15,
        "fruitless_batches": 0,
        "interval_seconds": 0.5,
        "stop_seconds": 5,
    },
    "membership": {"heartbeat_seconds": 1, "timeout_seconds": 5},
}


def fleet_recipe(output: Path, changes: Sequence[tuple[str, Any]] = ()) -> Recipe:
    """The tree above with changes such as ("generators.count", 200)."""
    tree: dict[str, Any] = {name: _copied(value) for name, value in _TREE.items()} | {"output": str(output)}
    for key, value in changes:
        *path, last = key.split(".")
        section = tree
        for name in path:
            section = section.setdefault(name, {})
        section[last] = value
    return parse(tree, "the synthetic fleet")


def _copied(value: Any) -> Any:
    return {name: _copied(inner) for name, inner in value.items()} if isinstance(value, dict) else value
