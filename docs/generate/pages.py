"""The documents that are generated from the code, as a whole or in part."""

import re
from collections.abc import Callable
from pathlib import Path

from docs.generate.configuration import configuration, pipeline_table, reflection_table, resuming_table
from docs.generate.exported import exported_page
from docs.generate.metrics import metrics_page
from docs.generate.notations import notations_table
from docs.generate.rules import rules
from learner.algorithms.table import corrections_table, objectives_table

ROOT = Path(__file__).parents[2]

#: Documents that are generated as a whole.
PAGES: dict[str, Callable[[], str]] = {
    "docs/configuration.md": configuration,
    "docs/metrics.md": metrics_page,
    "grafana/METRICS.md": exported_page,
    "deploy/monitoring/rules.yaml": rules,
}
#: What stands between `<!-- NAME: generated -->` and `<!-- /NAME -->` in a document that is written by hand.
PARTS: dict[str, Callable[[], str]] = {
    "corrections": corrections_table,
    "notations": notations_table,
    "objectives": objectives_table,
    "pipeline": pipeline_table,
    "reflection": reflection_table,
    "resuming": resuming_table,
}
DOCUMENTS = ("docs/operations.md", "docs/recipes.md", "docs/sandbox.md")


def renewed(text: str) -> str:
    """A document with its generated parts made anew.

    Raises:
        KeyError: for a part that nothing makes.
    """

    def renew(match: re.Match[str]) -> str:
        return f"<!-- {match[1]}: generated -->\n{PARTS[match[1]]().strip()}\n<!-- /{match[1]} -->"

    return re.sub(r"<!-- (\w+): generated -->\n.*?<!-- /\1 -->", renew, text, flags=re.DOTALL)


def current(root: Path = ROOT) -> dict[Path, str]:
    """Each file that is generated, or has a generated part, and what should stand in it."""
    pages = {root / name: make() for name, make in PAGES.items()}
    return pages | {root / name: renewed((root / name).read_text()) for name in DOCUMENTS}
