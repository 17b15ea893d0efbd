"""The parts of the documentation that are made from the code: options, metrics, objectives, the summary's keys."""

import re
from pathlib import Path

from prometheus_client import REGISTRY
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import sandbox.metrics
from actors.config import keys
from actors.config.recipe import Recipe
from actors.observability import metrics
from actors.report.summary import RunSummary
from learner.algorithms.table import objectives_table

OPTIONS = Path("recipes/OPTIONS.md")
README = Path("README.md")


def options() -> str:
    """Every key of a recipe, its default and its meaning, as Markdown."""
    lines = [
        "# Options of a recipe",
        "",
        "Made from the configuration by `python -m docs.generate`; `leeway check RECIPE` prints the resolved tree.",
        "",
        "| key | default | meaning |",
        "|---|---|---|",
    ]
    return "\n".join(
        [*lines, *(_row(key, _default(field), field.description or "") for key, field in keys.rows(Recipe)), ""]
    )


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    return "" if isinstance(value, BaseModel) else f"`{value}`"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def metrics_table() -> str:
    """Every metric that Leeway's processes export, as Markdown. A verifier also exports its sandbox's."""
    own = {id(value) for module in (metrics, sandbox.metrics) for value in vars(module).values()}
    families = {
        family.name: family
        for collector in list(REGISTRY._collector_to_names)
        if id(collector) in own
        for family in collector.collect()
    }
    rows = [
        _row(f"`{name}{'_total' if family.type == 'counter' else ''}`", family.type, family.documentation)
        for name, family in sorted(families.items())
    ]
    return "\n".join(["| metric | type | meaning |", "|---|---|---|", *rows])


def summary_table() -> str:
    """The keys of summary.json, as Markdown."""
    return "\n".join(
        ["| key | meaning |", "|---|---|", *(_row(f"`{k}`", f.description or "") for k, f in keys.rows(RunSummary))]
    )


def statistics_table() -> str:
    """What every step's statistics say, as Markdown."""
    from learner.statistics import REWARD_PART, STATISTICS

    parts = {f"{REWARD_PART}NAME": "mean of the reward's part NAME over the trained groups, before its weight"}
    rows = (_row(f"`{name}`", meaning) for name, meaning in {**STATISTICS, **parts}.items())
    return "\n".join(["| statistic | meaning |", "|---|---|", *rows])


SECTIONS = {
    "statistics": statistics_table,
    "metrics": metrics_table,
    "summary": summary_table,
    "objectives": objectives_table,
}


def readme(text: str) -> str:
    """The README with its generated sections renewed. Raises KeyError for a section that nothing makes."""

    def renew(match: re.Match[str]) -> str:
        name = match[1]
        return f"<!-- {name}: generated -->\n{SECTIONS[name]()}\n<!-- /{name} -->"

    return re.sub(r"<!-- (\w+): generated -->\n.*?<!-- /\1 -->", renew, text, flags=re.DOTALL)


def write(root: Path) -> None:
    """Renew everything that is generated."""
    (root / OPTIONS).write_text(options())
    (root / README).write_text(readme((root / README).read_text()))


if __name__ == "__main__":
    write(Path())
