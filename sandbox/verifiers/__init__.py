"""The built-in verifiers; importing this package registers them."""

from __future__ import annotations

from sandbox.verifiers import absent, exact, gym, mathematics, programs

__all__ = ["absent", "exact", "gym", "mathematics", "programs"]
