"""What the stages of a pipeline have come to: one row a stage, on the terminal, as JSON and as a page."""

import json
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from actors.events import SAMPLE, EvaluationDone, SourceScores
from actors.report.page import document, markup
from actors.report.scores import with_interval
from actors.report.summary import RunSummary
from actors.report.text import columns, visible
from actors.report.units import NONE, number, percent
from actors.report.writer import RunFolder, read_back

SUMMARY, REPORT = "pipeline-summary.json", "report.html"
COLUMNS = ("stage", "kind", "pass@1", "maj@k", "format", "language", "length", "tokens", "minutes", "steps")


class StageSummary(BaseModel):
    """What one stage has come to: its last evaluation, and what it took. Null is what there is not, or not yet."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(description="of the stage")
    kind: str = Field(description="of the stage")
    folder: str = Field(description="name of the run folder")
    outcome: str | None = Field(None, description="running, finished, interrupted or failed")
    pass_at_1: float | None = Field(None, description="share of right answers, averaged over all samples")
    pass_at_1_interval: tuple[float, float] | None = Field(None, description="confidence interval of pass_at_1 (95 %)")
    maj_at_k: float | None = Field(None, description="share of tasks whose most frequent answer is right")
    maj_at_k_interval: tuple[float, float] | None = Field(None, description="confidence interval of maj_at_k (95 %)")
    k: int | None = Field(None, description="samples a task")
    format: float | None = Field(None, description="share of responses in the asked format")
    language: float | None = Field(None, description="mean language consistency of the responses")
    mean_length: float | None = Field(None, description="mean length of a response (tokens)")
    by_source: dict[str, SourceScores] = Field(
        default_factory=dict, description="what was measured, for each task source"
    )
    tokens: int | None = Field(None, description="tokens that were generated")
    minutes: float | None = Field(None, description="time that the run took, over all resumes (min)")
    steps: int | None = Field(None, description="optimizer steps of the reinforcement learning")


class PipelineSummary(BaseModel):
    """`pipeline-summary.json`."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(description="of the pipeline")
    stages: list[StageSummary] = Field(description="the stages, in their order")


#: What a row takes from the evaluation.
_MEASURED = {
    "pass_at_1",
    "pass_at_1_interval",
    "maj_at_k",
    "maj_at_k_interval",
    "k",
    "format",
    "language",
    "mean_length",
    "by_source",
}


def stage_summary(name: str, kind: str, folder: Path) -> StageSummary:
    """What the run in a folder has come to; a row of nulls where there is none.

    Raises:
        RunError: if the folder's files are damaged.
    """
    row = StageSummary(name=name, kind=kind, folder=folder.name)
    if not (folder / RunFolder.SUMMARY).exists():
        return row
    summary = RunSummary.model_validate_json((folder / RunFolder.SUMMARY).read_text(encoding="utf-8"))
    done = [event for event in read_back(folder) if isinstance(event, EvaluationDone) and event.name != SAMPLE]
    measured = {name: getattr(done[-1], name) for name in _MEASURED} if done else {}
    taken = {"outcome": summary.outcome, "tokens": summary.tokens.generated, "steps": summary.steps}
    return row.model_copy(update={**measured, **taken, "minutes": summary.wall_seconds / 60})


def table(summary: PipelineSummary) -> list[str]:
    """The table, line by line, its headings first; several task sources have a line each below their stage."""
    return columns([COLUMNS, *(row for stage in summary.stages for row in _rows(stage))], right=2)


def _rows(stage: StageSummary) -> Iterator[tuple[str, ...]]:
    """The stage, and its task sources where it has several."""
    minutes = NONE if stage.minutes is None else f"{stage.minutes:.1f}"
    taken = (number(stage.tokens), minutes, number(stage.steps))
    yield (visible(stage.name), stage.kind, *_measured(stage, stage.k), *taken)
    if len(stage.by_source) > 1:
        for source, scores in stage.by_source.items():
            yield (f"  {visible(source)}", "", *_measured(scores, stage.k), "", "", "")


def _measured(scores: StageSummary | SourceScores, k: int | None) -> tuple[str, ...]:
    majority = NONE if scores.maj_at_k is None else f"{with_interval(scores.maj_at_k, scores.maj_at_k_interval)}, k={k}"
    right = with_interval(scores.pass_at_1, scores.pass_at_1_interval)
    return (right, majority, percent(scores.format, 1), percent(scores.language, 1), number(scores.mean_length))


def to_html(summary: PipelineSummary) -> str:
    """The pipeline's report: the table, and the way to the report of each stage."""
    seen = {
        "name": summary.name,
        "columns": COLUMNS,
        "rows": [(stage, list(_rows(stage))) for stage in summary.stages],
    }
    title = json.dumps(f"{summary.name} – Leeway")
    return document({"part/stages": markup("stages", seen), "title": title, "ended": "true"}, live=False)
