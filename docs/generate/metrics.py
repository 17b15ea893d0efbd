"""docs/metrics.md: every statistic of a step, every key of summary.json; what is exported is in grafana/METRICS.md."""

from collections.abc import Iterator

from pydantic import BaseModel

from actors.report import statistics as reported
from actors.report.summary import RunSummary
from docs.generate.configuration import models, values
from docs.generate.markdown import MADE, table
from learner.statistics import REWARD_PART, STATISTICS

METRICS = f"""\
# Metrics

What Prometheus sees is in a page of its own: [every metric](../grafana/METRICS.md), with unit, owner, meaning and
normal range. This page has what the run folder holds: the statistics of each step, and the outcome.

{MADE}"""


def metrics_page() -> str:
    """Every statistic of a step, every key of summary.json."""
    return "\n\n".join([METRICS, STATISTICS_INTRO, statistics_table(), SUMMARY_INTRO, summary_table()]) + "\n"


STATISTICS_INTRO = """\
## Statistics of a step

`leeway_step_statistic` has a series for each of these, labelled `name`, of the latest optimizer step; `metrics.jsonl`
and TensorBoard have them of all steps."""

SUMMARY_INTRO = """\
## summary.json

The outcome of a run for other programs. Keys are never renamed or removed; a value that does not exist (yet) is
`null`."""


def statistics_table() -> str:
    """What every step's statistics say, as Markdown."""
    parts = {f"{REWARD_PART}NAME": "mean of the reward's part NAME over the trained groups, before its weight"}
    # these are added where groups are verified: the learner never sees a dropped group
    replay = {
        **{name: reported.KNOWN[name].meaning for name in (reported.MIXED_GROUPS, reported.REWARD)},
        **{name: of.meaning for name, of in reported.OBSERVED.items()},
        f"{reported.DIFFICULTY}BAND": "Share of the verified groups whose task is never, rarely, sometimes, mostly or "
        "always solved, by its own completions; rarely ends at a quarter of them, mostly begins at three.",
        f"{reported.SOURCE_REWARD}NAME": "The same of the task source NAME alone, where the run has several.",
        f"{reported.SOURCE_LENGTH}NAME": "Mean length of the same rollouts (tokens), with several sources.",
    }
    meanings = {**STATISTICS, **parts, **{name: f"{meaning} Not in Prometheus." for name, meaning in replay.items()}}
    return table(["statistic", "meaning"], ([f"`{name}`", meaning] for name, meaning in meanings.items()))


def summary_table() -> str:
    """The keys of summary.json, as Markdown."""

    def rows(model: type[BaseModel], prefix: str) -> Iterator[list[str]]:
        for name, field in model.model_fields.items():
            sections = models(field.annotation)
            yield [f"`{prefix}{name}`", "section" if sections else values(field), field.description or ""]
            for section in sections:
                yield from rows(section, f"{prefix}{name}.")

    return table(["key", "values", "meaning"], rows(RunSummary, ""))
