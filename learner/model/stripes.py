"""Which rank keeps, and sends, which tensors of a snapshot: contiguous runs of about equal bytes, pure."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import accumulate


def stripes(sizes: Sequence[int], together: Sequence[Hashable], count: int) -> list[int]:
    """The stripe of each tensor, from 0 up and never falling.

    Stripe k ends at the place nearest to (k + 1) / count of all bytes where nothing is cut that belongs together, so
    that it has no more than its share and the largest of what is not cut. Where there are fewer of those than stripes,
    some are empty.

    Args:
        sizes: of each tensor (bytes).
        together: by tensor; those of equal ones are in one stripe, and so is whatever lies between them.
        count: of stripes.
    """
    before = [0, *accumulate(sizes)]  # bytes before each place
    places = [0, *_ends(together)]
    cuts = [min(places, key=lambda place: abs(before[place] * count - before[-1] * k)) for k in range(1, count)]
    found = []
    stripe = 0
    for tensor in range(len(sizes)):
        while stripe < len(cuts) and tensor >= cuts[stripe]:
            stripe += 1
        found.append(stripe)
    return found


def _ends(together: Sequence[Hashable]) -> list[int]:
    """The places, as numbers of tensors before them, that cut nothing; the end is one."""
    last = {unit: tensor for tensor, unit in enumerate(together)}
    ends, reach = [], 0
    for tensor, unit in enumerate(together):
        reach = max(reach, last[unit])
        if reach == tensor:
            ends.append(tensor + 1)
    return ends
