"""What the status page says of a run, from what the controller knows. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

from actors.report.state import IDLE_SHARE

#: The pools whose members count.
POOLS = ("generator", "verifier", "learner", "replay")


def waits(busy: Mapping[str, float], queues: Mapping[str, int]) -> dict[str, str]:
    """What each pool that did little waits for."""
    reasons = {
        "generator": "the learner (staleness bound)" if queues["ready"] else "weights or tasks",
        "verifier": "" if queues["generated"] else "completions",
        "learner": "a full batch",
    }
    return {role: reason for role, reason in reasons.items() if reason and busy[role] < IDLE_SHARE}


def targets(members: Iterable[Mapping[str, Any]], run: str) -> list[dict[str, Any]]:
    """Where Prometheus finds the members' metrics."""
    return [
        {
            "targets": [member["report"]["metrics"]],
            "labels": {"role": member["role"], "member": member["name"], "run": run},
        }
        for member in members
        if member["report"]["metrics"]
    ]
