"""Puts calls into tests that say what of them has run: which tests, which assertions, which failures were swallowed."""

from __future__ import annotations

import ast
from typing import Any

#: Names of the functions that are called, and which the tests must find in their namespace.
RAN, ASSERTED, SWALLOWED = "__ran__", "__asserted__", "__swallowed__"


def _at(node: ast.stmt, made: Any) -> Any:
    made.lineno, made.col_offset = node.lineno, node.col_offset
    made.end_lineno, made.end_col_offset = node.end_lineno, node.end_col_offset
    return made


class Watched(ast.NodeTransformer):
    """Has tests and assertions noticed when they run.

    Attributes:
        assertions: the statements that assert, but for calls of what the tests define: these contain some.
    """

    def __init__(self, defined: set[str]) -> None:
        self.assertions: list[ast.stmt] = []
        self._defined = defined

    def _decorated(self, node: Any) -> Any:
        if node.name.startswith("test") or node.name == "check":
            node.decorator_list.append(_at(node, ast.Name(RAN, ast.Load())))
        return self.generic_visit(node)

    visit_FunctionDef = visit_AsyncFunctionDef = _decorated  # noqa: N815 - names of `ast`

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> Any:
        """One more statement in a handler that does nothing but print."""
        self.generic_visit(node)
        if all(isinstance(part, ast.Expr) and "print(" in ast.unparse(part) for part in node.body):
            first: Any = node.body[0]
            call = _at(first, ast.Call(_at(first, ast.Name(SWALLOWED, ast.Load())), [], []))
            node.body.insert(0, _at(first, ast.Expr(call)))
        return node

    def visit_Assert(self, node: ast.Assert) -> Any:
        """One more statement before it."""
        return self._counted(node)

    def visit_Expr(self, node: ast.Expr) -> Any:
        """The same for calls that assert."""
        call = node.value.value if isinstance(node.value, ast.Await) else node.value
        return self._counted(node) if self._asserts(call) else self.generic_visit(node)

    def visit_With(self, node: ast.With) -> Any:
        """The same for blocks that are to raise something."""
        self.generic_visit(node)
        return self._counted(node) if any(self._asserts(one.context_expr) for one in node.items) else node

    def _asserts(self, node: ast.expr) -> bool:
        name = ast.unparse(node.func).rpartition(".")[2] if isinstance(node, ast.Call) else ""
        return name not in self._defined and ("assert" in name.lower() or name in ("raises", "warns", "fail"))

    def _counted(self, node: ast.stmt) -> list[ast.stmt]:
        self.assertions.append(node)
        call = _at(node, ast.Call(_at(node, ast.Name(ASSERTED, ast.Load())), [], []))
        return [_at(node, ast.Expr(call)), node]
