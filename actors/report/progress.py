"""How far the stages of a pipeline are, for `leeway status`: which are done, which one runs, and what each came to."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from actors.report.scores import with_interval
from actors.report.stages import StageSummary, stage_summary
from actors.report.text import columns, visible
from actors.report.units import NONE, number
from actors.report.writer import LOCK, is_locked


class StageProgress(BaseModel):
    """One stage, as its folder shows it."""

    model_config = ConfigDict(frozen=True)

    state: str = Field(
        description="done; running; to come: nothing is there yet; interrupted or failed; killed: it ended unsaid"
    )
    summary: StageSummary = Field(description="what it has come to so far")


class PipelineProgress(BaseModel):
    """A pipeline, as its folder shows it."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(description="of the pipeline")
    folder: str = Field(description="its folder")
    alive: bool = Field(description="whether a process carries it out")
    stages: list[StageProgress] = Field(description="the stages, in their order")

    @property
    def running(self) -> StageSummary | None:
        """The stage that runs; None between two, too."""
        return next((stage.summary for stage in self.stages if stage.state == "running"), None)

    @property
    def is_done(self) -> bool:
        """Whether every stage is."""
        return all(stage.state == "done" for stage in self.stages)


def progress(name: str, folder: Path, stages: Sequence[tuple[str, str, Path]]) -> PipelineProgress:
    """How far a pipeline is.

    Args:
        name: of the pipeline.
        folder: its folder, on a file system that this machine shares with the processes that run it.
        stages: name, kind and folder of each.

    Raises:
        RunError: the files of a stage are damaged.
    """
    found = [StageProgress(state=_state(place, row), summary=row) for place, row in _rows(stages)]
    return PipelineProgress(name=name, folder=str(folder), alive=is_locked(folder / LOCK), stages=found)


def _rows(stages: Sequence[tuple[str, str, Path]]) -> list[tuple[Path, StageSummary]]:
    return [(place, stage_summary(name, kind, place)) for name, kind, place in stages]


def _state(folder: Path, row: StageSummary) -> str:
    if is_locked(folder / LOCK):
        return "running"
    match row.outcome:
        case "finished":
            return "done"
        case "running":
            return "killed"
        case None:
            return "to come" if not folder.is_dir() else "killed"
    return row.outcome


def table(found: PipelineProgress) -> list[str]:
    """The stages line by line, the headings first."""
    rows = [("", "stage", "kind", "state", "steps", "pass@1", "minutes")]
    for place, stage in enumerate(found.stages, 1):
        row = stage.summary
        minutes = NONE if row.minutes is None else f"{row.minutes:.1f}"
        right = with_interval(row.pass_at_1, row.pass_at_1_interval)
        rows.append((str(place), visible(row.name), row.kind, stage.state, number(row.steps), right, minutes))
    return columns(rows, right=4)
