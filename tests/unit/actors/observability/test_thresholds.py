"""The table of thresholds and those who judge by it."""

import ast
import inspect

from actors.observability import thresholds
from actors.report import health


def test_every_threshold_decides_a_warning_or_is_named_as_for_alerts_only() -> None:
    table = {name for name in vars(thresholds) if name.isupper()} - {"ALERTS_ONLY"}
    used = {
        node.attr
        for node in ast.walk(ast.parse(inspect.getsource(health)))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "thresholds"
    }
    assert used | thresholds.ALERTS_ONLY == table
    assert used & thresholds.ALERTS_ONLY == set()


def test_health_has_no_threshold_of_its_own() -> None:
    assert [name for name in vars(health) if name.isupper()] == []
