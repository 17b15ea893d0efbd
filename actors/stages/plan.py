"""Which stages of a pipeline run, resume, or are done: a pure function of what they are and of what is found of them.

nothing is found                                    run
it is another stage than the one that is found      rerun: what is found is set aside
a stage that it depends on is not done              rerun
it has no checkpoint that could be resumed          rerun
it has not finished                                 resume
else                                                done
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from actors.config.model import FolderModel
from actors.config.pipeline import Stage
from actors.config.stages import CURATED
from actors.report.text import columns
from actors.stages.identity import Identity, differences

#: Changes that are named; of further ones only the number is.
_NAMED = 3


class Action(Enum):
    """What is to be done with a stage."""

    RUN = "run"
    RERUN = "rerun"
    RESUME = "resume"
    DONE = "done"


@dataclass(frozen=True)
class Found:
    """What there is of a stage.

    Attributes:
        identity: of the stage that the folder was made by; None where the folder does not say.
        finished: whether its run came to its end, and left its model.
        step: of its newest whole checkpoint; None where there is none.
    """

    identity: Identity | None
    finished: bool
    step: int | None


@dataclass(frozen=True)
class Planned:
    """What becomes of a stage, and why."""

    stage: Stage
    action: Action
    text: str


def plan(
    stages: Sequence[Stage], identities: Mapping[str, Identity], found: Mapping[str, Found | None]
) -> list[Planned]:
    """What becomes of each stage.

    Args:
        stages: in their order.
        identities: what the result of each depends on, by name.
        found: what there is of each; None or absent: nothing.
    """
    planned: dict[str, Planned] = {}
    for stage in stages:
        waited = [name for name in dict.fromkeys(stage.needs.values()) if planned[name].action is not Action.DONE]
        planned[stage.name] = _one(stage, identities[stage.name], found.get(stage.name), waited)
    return list(planned.values())


def _one(stage: Stage, identity: Identity, found: Found | None, waited: Sequence[str]) -> Planned:
    if found is None:
        return Planned(stage, Action.RUN, "will run")
    if found.identity != identity:
        changed = differences(found.identity, identity) if found.identity is not None else ["nothing says what it was"]
        more = f" (and {len(changed) - _NAMED} more)" if len(changed) > _NAMED else ""
        return Planned(stage, Action.RERUN, f"runs again, since {'; '.join(changed[:_NAMED])}{more}")
    if waited:
        return Planned(stage, Action.RERUN, f"runs again, after {', '.join(waited)}")
    if found.finished:
        return Planned(stage, Action.DONE, "done")
    if found.step is None:
        return Planned(stage, Action.RERUN, "runs again, since it ended before its first checkpoint")
    return Planned(stage, Action.RESUME, f"resumes at step {found.step}")


def lines(planned: Sequence[Planned]) -> list[str]:
    """The plan as people read it: number, stage, kind, what it begins with and learns from, what becomes of it."""
    rows = [("", "stage", "kind", "from", "data", "plan")]
    for each in planned:
        stage = each.stage
        rows.append((str(stage.number), stage.name, stage.kind, _model(stage), _data(stage), each.text))
    return columns(rows)


def _model(stage: Stage) -> str:
    model = stage.recipe.model
    return stage.needs.get("model") or (Path(model.path).name if isinstance(model, FolderModel) else model.kind)


def _data(stage: Stage) -> str:
    """What it learns from beside its tasks: earlier stages, and names of files."""
    cold, preferences = stage.recipe.cold_start, stage.recipe.preferences
    named = [name for what, name in stage.needs.items() if what != "model"]
    if cold is not None and not any(what.startswith("data.") for what in stage.needs):
        named += [Path(path).name for path in stage.data or [cold.traces]]
    elif stage.data:
        named += [path.name for path in stage.data if path.name not in CURATED]
    if preferences is not None and preferences.pairs is not None:
        named.append(Path(preferences.pairs).name)
    return ", ".join(named)
