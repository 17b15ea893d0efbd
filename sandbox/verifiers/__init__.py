"""The built-in verifiers; importing this package registers them."""

from __future__ import annotations

from sandbox.verifiers import exact, gym, mathematics, programs

__all__ = ["exact", "gym", "mathematics", "programs"]
