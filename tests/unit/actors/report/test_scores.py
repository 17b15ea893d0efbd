"""The table of an evaluation."""

from io import StringIO
from pathlib import Path

from rich.console import Console

from actors.events import EvaluationDone, SourceScores
from actors.report.outcome import print_outcome
from actors.report.state import RunState
from actors.report.summary import summarise
from tests.unit.actors.report.example_events import info, step

SUMS = SourceScores(
    n=30,
    pass_at_1=0.25,
    pass_at_1_interval=(0.14, 0.41),
    pass_at_k=0.5,
    pass_at_k_interval=(0.33, 0.67),
    maj_at_k=0.3,
    maj_at_k_interval=(0.17, 0.48),
    mean_length=80.0,
)


def printed(before: float | None = None, **sources: SourceScores) -> str:
    state = RunState(info())
    if before is not None:
        earlier = {name: scores.model_copy(update={"pass_at_1": before}) for name, scores in sources.items()}
        first = SUMS.model_dump() | {"pass_at_1": before}
        state.fold(
            EvaluationDone(name="before", version=0, k=4, by_source=earlier, version_min=0, version_max=0, **first)
        )
        state.fold(step(1))
    whole = SUMS.model_dump() | {"n": 30 * len(sources)}
    state.fold(
        EvaluationDone(name="after", version=0, k=4, by_source=sources, version_min=0, version_max=0, **whole)
    )  # fmt: skip
    out = StringIO()
    print_outcome(Console(file=out, width=80), summarise(state), Path("runs/eval"))
    return out.getvalue()


def test_a_run_without_a_step_ends_with_its_scores_and_their_intervals() -> None:
    text = printed(sums=SUMS)
    (line,) = [line for line in text.splitlines() if line.startswith("sums ")]
    assert line.split("  ")[0] == "sums"
    for share in ("30", "25.0% [14%, 41%]", "50.0% [33%, 67%]", "30.0% [17%, 48%]", "80"):
        assert share in line
    assert "pass@4" in text and "maj@4" in text and "all sources" not in text


def test_several_sources_have_a_line_each_and_one_for_all() -> None:
    lines = printed(sums=SUMS, code=SUMS).splitlines()
    assert [sum(line.startswith(name) for line in lines) for name in ("sums ", "code ", "all sources ")] == [1, 1, 1]
    assert next(line for line in lines if line.startswith("all sources")).split()[2] == "60"


def test_a_run_of_several_sources_ends_with_where_each_began() -> None:
    text = printed(0.125, sums=SUMS, code=SUMS)
    for name in ("sums", "code", "all sources"):
        (line,) = [line for line in text.splitlines() if line.startswith(f"{name} ")]
        assert "12.5% [14%, 41%]  25.0% [14%, 41%]" in line
    alone = printed(0.125, sums=SUMS).splitlines()
    assert not [line for line in alone if line.startswith("sums ")], "the head of the outcome says it all"
