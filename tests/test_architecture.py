"""The three packages know each other in one direction only."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN = {
    "sandbox": {"actors", "learner", "ray", "zmq", "torch", "vllm"},
    "learner": {"actors", "sandbox", "ray", "zmq", "vllm"},
}


def imports(path: Path) -> Iterator[str]:
    """Top-level names that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("package", sorted(FORBIDDEN))
def test_the_import_rule(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    against = {str(f.relative_to(ROOT)): found for f in files if (found := FORBIDDEN[package] & set(imports(f)))}
    assert against == {}


def test_no_module_is_longer_than_400_lines() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for folder in ("actors", "learner", "sandbox", "benchmarks")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if ".venv" not in path.parts and (lines := path.read_text().count("\n")) > 400
    }
    assert long == {}
