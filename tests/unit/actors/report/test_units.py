"""Numbers as people read them."""

from actors.report.units import duration, number, percent, size


def test_numbers_read_well() -> None:
    assert [duration(s) for s in (None, 0.0123, 3.44, 59.97, 125, 4320)] == [
        "–", "12 ms", "3.4 s", "1 min 00 s", "2 min 05 s", "1 h 12 min",
    ]  # fmt: skip
    assert [number(x) for x in (None, 0, 0.12345, 0.00001, 7, 812.4, 15234, 2.5e6)] == [
        "–", "0", "0.123", "1.0e-05", "7", "812", "15.2 k", "2.5 M",
    ]  # fmt: skip
    assert [size(b) for b in (None, 512, 3_600_000)] == ["–", "512 B", "3.6 MB"]
    assert percent(0.4249) == "42%"
