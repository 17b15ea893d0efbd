"""The table of a pipeline."""

from pathlib import Path

from actors.events import EvaluationDone, Phase, SourceScores
from actors.report.stages import PipelineSummary, stage_summary, table, to_html
from tests.unit.actors.report.example_events import record, step

CODE = SourceScores(n=10, pass_at_1=0.2, pass_at_1_interval=(0.05, 0.5), mean_length=70.0)
SUMS = SourceScores(n=30, pass_at_1=0.6, pass_at_1_interval=(0.45, 0.73), mean_length=30.0)


def summary(folder: Path, **sources: SourceScores) -> PipelineSummary:
    """Of a pipeline whose first stage has run, and whose second has not begun."""
    done = EvaluationDone(
        seconds=9,
        name="after",
        version=1,
        k=4,
        n=40,
        pass_at_1=0.5,
        pass_at_1_interval=(0.37, 0.63),
        maj_at_k=0.55,
        maj_at_k_interval=(0.4, 0.69),
        by_source=sources,
        version_min=1,
        version_max=1,
    )
    record(folder / "01-rl", [step(1), done, Phase(seconds=10, name="finished")])
    rows = [stage_summary(name, kind, folder / f"0{i}-{name}") for i, (name, kind) in enumerate(STAGES, 1)]
    return PipelineSummary(name="both", stages=rows)


STAGES = (("rl", "rl"), ("test", "evaluate"))


def test_a_stage_has_its_intervals_and_a_line_for_each_of_several_sources(tmp_path: Path) -> None:
    head, rl, code, sums, later = table(summary(tmp_path, code=CODE, sums=SUMS))
    assert head.split()[:3] == ["stage", "kind", "pass@1"]
    assert "50.0% [37%, 63%]" in rl and "55.0% [40%, 69%], k=4" in rl
    assert code.startswith("  code") and "20.0% [5%, 50%]" in code and "70" in code.split()
    assert sums.startswith("  sums") and "60.0% [45%, 73%]" in sums
    assert later.split()[:3] == ["test", "evaluate", "–"]


def test_a_single_source_would_say_the_same_again(tmp_path: Path) -> None:
    assert len(table(summary(tmp_path, sums=SUMS))) == 3


def test_the_page_has_the_same_rows_and_one_way_to_each_report(tmp_path: Path) -> None:
    found = summary(tmp_path, code=CODE, sums=SUMS)
    assert PipelineSummary.model_validate_json(found.model_dump_json()) == found
    page = to_html(found)
    assert page.count('href="01-rl/report.html"') == 1
    assert "20.0% [5%, 50%]" in page and "50.0% [37%, 63%]" in page
