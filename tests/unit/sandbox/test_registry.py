"""The registry: the built-ins are there, a wrong name lists them, and no name is taken twice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sandbox import BadReferenceError, SandboxError, UnknownVerifierError, lookup, verifier, verifier_names


def test_the_built_in_verifiers_are_there() -> None:
    built_in = {"assert", "exact", "function", "math", "numeric", "reasoning_gym", "stdio"}
    assert built_in <= set(verifier_names())
    assert [lookup(name).name for name in sorted(built_in)] == sorted(built_in)


def test_names_are_to_be_had_without_an_algebra_system_or_a_server() -> None:
    heavy = "torch", "ray", "sympy", "math_verify", "reasoning_gym", "lingua", "fastapi", "numpy"
    source = f"import sandbox, sys\nassert 'math' in sandbox.verifier_names()\nprint(set({heavy}) & set(sys.modules))"
    root = Path(__file__).parents[3]
    ended = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60, cwd=root)
    assert ended.stdout == "set()\n", ended.stderr


def test_lookup_lists_the_known_names() -> None:
    with pytest.raises(UnknownVerifierError, match=r"exact.*numeric.*did you mean 'exact'\?") as raised:
        lookup("exakt")
    assert "import the module" in raised.value.__notes__[0]
    with pytest.raises(SandboxError, match="already"):
        verifier("exact")(lambda submission: True)  # noqa: ARG005
    assert issubclass(BadReferenceError, ValueError)
