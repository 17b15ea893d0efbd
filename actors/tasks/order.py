"""Endless orders with random access: a shuffle without a list, and an interleaving of sources by weight."""

import hashlib
import random
from collections.abc import Sequence

_ROUNDS = 4
_BLOCK = 1000  # slots; weights are rounded to thousandths


class Shuffle:
    """Every index of range(size) once an epoch, in another order each epoch; any position in O(1) time and memory.

    A balanced Feistel network permutes the next power of four, and walking its cycles restricts the permutation to
    `size` (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002).
    """

    def __init__(self, size: int, seed: int, label: str = ""):
        if size < 1:
            raise ValueError("nothing to shuffle: size must be at least 1")
        self._size = size
        self._half = max(1, ((size - 1).bit_length() + 1) // 2)
        self._mask = (1 << self._half) - 1
        self._salt = f"{seed}/{label}".encode()

    def __call__(self, position: int) -> int:
        """The index at a position of the endless order; `position` >= 0."""
        epoch, value = divmod(position, self._size)
        while True:
            value = self._permute(epoch, value)
            if value < self._size:
                return value

    def _permute(self, epoch: int, value: int) -> int:
        left, right = value >> self._half, value & self._mask
        for number in range(_ROUNDS):
            digest = hashlib.blake2b(b"%d/%d/%d/" % (epoch, number, right) + self._salt, digest_size=8).digest()
            left, right = right, left ^ (int.from_bytes(digest) & self._mask)
        return left << self._half | right


def apportion(total: int, weights: Sequence[float]) -> list[int]:
    """Whole shares of `total` in proportion to `weights` (largest remainders)."""
    exact = [total * weight / sum(weights) for weight in weights]
    shares = [int(share) for share in exact]
    by_remainder = sorted(range(len(weights)), key=lambda i: shares[i] - exact[i])
    for i in by_remainder[: total - sum(shares)]:
        shares[i] += 1
    return shares


class Mixture:
    """Which source serves which index: the shares of every block of 1000 indices are the weights, to a thousandth."""

    def __init__(self, weights: Sequence[float], seed: int):
        shares = [max(1, share) for share in apportion(_BLOCK, weights)]
        slots = [source for source, share in enumerate(shares) for _ in range(share)]
        random.Random(f"{seed}/mixture").shuffle(slots)
        seen = [0] * len(weights)
        self._slots: list[tuple[int, int]] = []
        for source in slots:
            self._slots.append((source, seen[source]))
            seen[source] += 1
        self._shares = shares

    def __call__(self, index: int) -> tuple[int, int]:
        """(source, how many indices before this one the same source served)."""
        block, offset = divmod(index, len(self._slots))
        source, before = self._slots[offset]
        return source, block * self._shares[source] + before
