"""deploy/monitoring/rules.yaml: the rules for a Prometheus without an operator, from the PrometheusRule."""

from pathlib import Path

import yaml

SOURCE = Path(__file__).parents[2] / "deploy" / "monitoring" / "prometheusrule.yaml"
HEAD = "# Made of prometheusrule.yaml by `python -m docs.generate`; change it there.\n"


def rules() -> str:
    """The groups of the PrometheusRule, as a rule file."""
    groups = yaml.safe_load(SOURCE.read_text())["spec"]["groups"]
    return HEAD + yaml.safe_dump({"groups": groups}, sort_keys=False, allow_unicode=True, width=120)
