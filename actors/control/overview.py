"""What the status page says of a run, from what the controller knows."""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from actors.config.model import FolderModel
from actors.config.recipe import Recipe
from actors.control.recoveries import Recoveries
from actors.control.since import Since
from actors.control.supervisor import POOLED
from actors.events import Tick
from actors.membership import OPTIONAL_ROLES
from actors.observability.waits import REPORTED_SECONDS, long_waits
from actors.report.health import warnings
from actors.report.state import IDLE_SHARE, RunState

#: The pools, in the order of the work's way through them.
POOLS = ("generator", "verifier", "scorer", "replay", "learner")
#: The latest faults that are told.
SHOWN_FAULTS = 20


def waits(busy: Mapping[str, float], queues: Mapping[str, int]) -> dict[str, str]:
    """What each pool that did little waits for."""
    reasons = {
        "generator": "the learner (staleness bound)" if queues["ready"] else "weights or tasks",
        "verifier": "" if queues["generated"] else "completions",
        "scorer": "groups of verifiers",
        "learner": "a full batch",
    }
    return {role: reason for role, reason in reasons.items() if reason and busy.get(role, 1.0) < IDLE_SHARE}


class SeenByWatch(Protocol):
    """The part of `Watch` that is shown."""

    status: dict[str, Any]
    members: list[dict[str, Any]]
    recoveries: Recoveries
    since: Since


def status(
    state: RunState,
    watched: SeenByWatch,
    wanted: Mapping[str, int],
    ours: Collection[str],
    leaving: Collection[str] = (),
) -> dict[str, Any]:
    """Everything that `leeway status` shows, as JSON.

    Args:
        state: of the run.
        watched: what the controller has heard.
        wanted: processes of each role that there should be.
        ours: names of those that the controller has started, or adopted.
        leaving: names of those that were told to leave.
    """
    now, members, replay = time.monotonic(), list(watched.members), watched.status
    tick = state.tick or Tick(interval_seconds=1.0)
    return {
        "recipe": state.info.recipe,
        "folder": str(state.info.folder),
        "phase": state.phase.name,
        "detail": state.phase.detail,
        "seconds": state.seconds,
        "step": state.step,
        "steps": state.info.total_steps,
        "replay": dict(replay),
        "members": {member["name"]: member for member in members},
        "joined": [m["name"] for m in members if m["role"] in POOLED and m["name"] not in ours],
        "leaving": sorted(leaving),
        "pools": {
            role: _pool(role, members, wanted, tick) | _waits(role, tick, watched.since, now)
            for role in POOLS
            if role not in OPTIONAL_ROLES or wanted.get(role) or any(member["role"] == role for member in members)
        },
        "versions": _versions(state, members),
        "staleness": {
            "bound": state.info.max_staleness,
            "max": max(state.staleness, default=None),
            "last_step": max(state.last_step.staleness, default=None) if state.last_step else None,
        },
        "queues": tick.queues,
        "queue_ages": dict(replay.get("queue_ages", {})),
        "weight_sync": _weight_sync(state),
        "stuck": _stuck(members),
        "unresponsive": {name: event.detail for name, event in tuple(state.unresponsive.items())},
        "restarts": state.restarts,
        "recovering": watched.recoveries.open(now),
        "recovered": [
            event.model_dump(include={"seconds", "role", "member", "fault", "recovery_seconds"})
            for event in list(state.last_recoveries)[-SHOWN_FAULTS:]
        ],
        "warnings": [{"symptom": w.symptom, "text": w.text, "fix": w.fix} for w in warnings(state)],
    }


def _pool(role: str, members: Sequence[Mapping[str, Any]], wanted: Mapping[str, int], tick: Tick) -> dict[str, Any]:
    there = [member for member in members if member["role"] == role]
    return {
        "alive": len(there),
        "ready": sum(member["report"]["ready"] for member in there),
        "wanted": wanted.get(role, 1),
        "busy": tick.busy.get(role),
    }


def _waits(role: str, tick: Tick, since: Since, now: float) -> dict[str, Any]:
    return {"waits_for": tick.waits.get(role), "waits_seconds": since.seconds(role, now)}


def _versions(state: RunState, members: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int | None]]:
    """The version that each generator holds, and how far that is behind the learner."""
    found = {}
    for member in members:
        if member["role"] == "generator":
            version = member["report"]["version"]
            behind = None if version is None else max(0, state.version - version)
            found[member["name"]] = {"version": version, "behind": behind}
    return found


def _weight_sync(state: RunState) -> dict[str, Any] | None:
    """The latest update of the generators' weights."""
    if not len(state.sync_total):
        return None
    *_, last = state.sync_total
    return {
        "version": last.step,
        "members": state.sync_members,
        "total_seconds": last.value,
        "ago_seconds": state.seconds - last.seconds,
    }


def _stuck(members: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Who has waited for whom, for long, longest first."""
    found = [{"who": "controller", **wait.model_dump()} for wait in long_waits()]
    for member in members:
        report = member["report"]
        found += [{"who": member["name"], **wait} for wait in report["waits"]]
        if report["unanswered_seconds"] >= REPORTED_SECONDS:
            answer = {"on": "its engine", "what": "an answer", "seconds": report["unanswered_seconds"]}
            found.append({"who": member["name"], **answer})
    return sorted(found, key=lambda wait: -float(wait["seconds"]))


def run_labels(recipe: Recipe, folder: Path) -> dict[str, str]:
    """The labels of `leeway_run_info`."""
    model = recipe.model.path if isinstance(recipe.model, FolderModel) else recipe.model.kind
    return {"run": folder.name, "recipe": recipe.name, "objective": recipe.learner.objective.name, "model": model}


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
