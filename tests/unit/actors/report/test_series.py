"""Series in bounded memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.report.series import Series


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=300))
def test_a_series_keeps_mean_and_extremes_in_bounded_memory(values: list[float]) -> None:
    series = Series(limit=8)
    for i, value in enumerate(values):
        series.add(i, float(i), value)
    points = list(series)
    assert len(points) <= 8
    assert sum(point.count for point in points) == len(values)
    assert sum(point.value * point.count for point in points) == pytest.approx(sum(values), abs=1e-4)
    assert min(point.low for point in points) == min(values)
    assert max(point.high for point in points) == max(values)
