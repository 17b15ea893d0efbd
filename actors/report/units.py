"""Numbers as people read them."""

import math

NONE = "–"


def duration(seconds: float | None) -> str:
    """12 ms, 3.4 s, 2 min 05 s, 1 h 12 min."""
    if seconds is None or not math.isfinite(seconds):
        return NONE
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def clock(seconds: float) -> str:
    """3:07, 1:12:30."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def number(value: float | None) -> str:
    """Three significant digits, with k, M, G for large numbers."""
    if value is None or not math.isfinite(value):
        return NONE
    if value == 0:
        return "0"
    size = abs(value)
    for limit, factor, letter in ((1e9, 1e9, " G"), (1e6, 1e6, " M"), (1e4, 1e3, " k")):
        if size >= limit * 0.9995:
            return f"{value / factor:.3g}{letter}"
    if size >= 100 or value == round(value):
        return f"{value:.0f}"
    return f"{value:.3g}" if size >= 1e-4 else f"{value:.1e}"


def size(count: float | None) -> str:
    """Bytes in decimal units, as networks count them."""
    return NONE if count is None else number(count).removesuffix(" ") + (" B" if abs(count) < 1e4 else "B")


def percent(share: float | None, digits: int = 0) -> str:
    """A share as a percentage."""
    return NONE if share is None or not math.isfinite(share) else f"{share * 100:.{digits}f}%"


def plural(count: int, word: str) -> str:
    """`1 step`, `2 steps`."""
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"
