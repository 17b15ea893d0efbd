"""The generated table of objectives is complete."""

from __future__ import annotations

from learner.algorithms.table import SOURCES, objectives_table
from learner.config import PRESETS


def test_every_objective_has_a_row_and_a_source() -> None:
    assert set(SOURCES) == set(PRESETS)
    rows = objectives_table().splitlines()
    assert len(rows) == 2 + len(PRESETS)
    assert len({row.count("|") for row in rows}) == 1
    for name in PRESETS:
        assert any(row.startswith(f"| `{name}` |") for row in rows)
