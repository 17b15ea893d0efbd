"""docs/metrics.md: every metric by process, every statistic of a step, every key of summary.json."""

import ast
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import REGISTRY, Metric
from pydantic import BaseModel

import sandbox.metrics
from actors.observability import metrics
from actors.report import statistics as reported
from actors.report.summary import RunSummary
from docs.generate.configuration import models, values
from docs.generate.markdown import MADE, table
from learner.statistics import REWARD_PART, STATISTICS

ROOT = Path(__file__).parents[2]

METRICS = f"""\
# Metrics

Every process of a run serves `/metrics` for Prometheus; the controller's `/targets` lists them all
([operations](operations.md#prometheus)). Names have the prefix `leeway_` and base units, and each metric is defined
once, in `actors/observability/metrics.py` or `sandbox/metrics.py`. A process exposes most of the others' as well, at 0:
sum over the targets of a role, or ask the process that is named here. Beside them stand `process_*` and `python_*` of
`prometheus_client`.

{MADE}"""

EVERY = "every process"
#: Whose process runs a file that sets a metric; the first that matches counts.
PROCESSES = {
    "actors/control/": "controller",
    "actors/transport/": EVERY,
    "actors/replay/": "replay",
    "actors/roles/replay.py": "replay",
    "actors/roles/generator.py": "generator",
    "actors/roles/groups.py": "generator",
    "actors/engines/": "generator",
    "actors/weights/subscriber.py": "generator",
    "actors/roles/verifier/": "verifier",
    "sandbox/": "verifier",
    "actors/roles/learner/": "learner",
    "actors/weights/publisher.py": "learner",
    "actors/fleet/learner.py": "learner",
}
INTROS = {
    EVERY: "",
    "controller": "Also serves the status page, see [operations](operations.md#status-page).",
    "replay": "The ledger's counts: issued = in flight + ready + delivered + trained + committed + dropped.",
    "generator": "",
    "verifier": "Those of the sandbox are served by `leeway sandbox serve` as well.",
    "learner": "Rank 0 sets them; the other ranks only the time that they work.",
}


def metrics_page() -> str:
    """Every metric by the process that sets it, every statistic of a step, every key of summary.json."""
    by_process: dict[str, list[list[str]]] = {process: [] for process in INTROS}
    setters = _setters()
    for name, (constant, family, labels) in sorted(_families().items()):
        row = [f"`{name}`", family.type, ", ".join(f"`{label}`" for label in labels), family.documentation]
        for process in setters[constant]:
            by_process[process].append(row)
    head = ["metric", "type", "labels", "meaning"]
    parts = [METRICS]
    for process, intro in INTROS.items():
        parts += [f"## {process.capitalize()}", *filter(None, [intro]), table(head, by_process[process])]
    return "\n\n".join([*parts, STATISTICS_INTRO, statistics_table(), SUMMARY_INTRO, summary_table()]) + "\n"


def _families() -> dict[str, tuple[str, Metric, tuple[str, ...]]]:
    """Each metric as Prometheus shows it: the constant that holds it, its family and its labels."""
    found = {}
    registered = {id(collector) for collector in REGISTRY._collector_to_names}
    for module in (metrics, sandbox.metrics):
        for constant, collector in vars(module).items():
            if id(collector) in registered:
                [family] = collector.collect()
                name = f"{family.name}_total" if family.type == "counter" else family.name
                # a collector of our own names its labels in what it collects
                labels: tuple[str, ...] = getattr(collector, "_labelnames", ()) or getattr(family, "_labelnames", ())
                found[name] = (f"{module.__name__}.{constant}", family, labels)
    return found


def _setters() -> dict[str, list[str]]:
    """The processes that set each metric, by the constant that holds it.

    Raises:
        KeyError: a file sets a metric, and PROCESSES does not say whose process it is part of.
    """
    found: dict[str, list[str]] = {f"{metrics.__name__}.BUSY": [EVERY]}
    for file in sorted(f for package in ("actors", "sandbox") for f in (ROOT / package).rglob("*.py")):
        path = str(file.relative_to(ROOT))
        module = sandbox.metrics.__name__ if path.startswith("sandbox/") else metrics.__name__
        for constant in _written(ast.parse(file.read_text())):
            process = next((process for start, process in PROCESSES.items() if path.startswith(start)), None)
            if process is None:
                raise KeyError(f"{path} sets metrics.{constant}; name its process in {__name__}.PROCESSES")
            processes = found.setdefault(f"{module}.{constant}", [])
            if process not in processes:
                processes.append(process)
    return found


def _written(tree: ast.AST) -> list[str]:
    """The constants X of all `metrics.X` in a module."""
    return [
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "metrics"
        and node.attr.isupper()
    ]


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
        f"{reported.SOURCE_REWARD}NAME": "The same of the task source NAME alone, where the run has several.",
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
