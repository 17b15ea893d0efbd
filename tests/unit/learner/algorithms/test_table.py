"""The generated tables of objectives and corrections are complete."""

from __future__ import annotations

import re
from typing import get_args

from learner.algorithms.table import CORRECTIONS, SOURCES, corrections_table, objectives_table
from learner.objective import PRESETS, Correction, ObjectiveConfig


def test_every_objective_has_a_row_and_a_source() -> None:
    assert set(SOURCES) == set(PRESETS)
    rows = objectives_table().splitlines()
    assert len(rows) == 2 + len(PRESETS)
    assert len({row.count("|") for row in rows}) == 1
    for name in PRESETS:
        assert any(row.startswith(f"| `{name}` |") for row in rows)


def test_every_correction_has_a_row_whose_keys_exist() -> None:
    assert set(CORRECTIONS) == set(get_args(Correction)) - {"none"}
    table = corrections_table()
    assert len({row.count("|") for row in table.splitlines()}) == 1
    named = set(re.findall(r"`(correction_\w+)`", table))
    assert named == {"correction_low", "correction_high", "correction_divergence"} <= set(ObjectiveConfig.model_fields)
