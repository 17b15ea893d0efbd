"""Which names of the program tests use as classes, by how they are written.

A class that stands in place of a function makes objects that are equal to whatever the tests expect, while the objects
of a class under test may well equal a number or a tuple. The program's word does not tell the two apart.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

_OF_VALUES = frozenset(
    name for kind in (str, bytes, int, float, complex, list, dict, set, tuple, range) for name in dir(kind)
)
_CLASS_CHECKS = frozenset({"isinstance", "issubclass", "assertIsInstance", "assertNotIsInstance"})


def class_names(setup: ast.Module, tests: ast.Module, entry: str) -> set[str]:
    """The names, without what stands before their last dot; "" too if that of the entry is one.

    A class is what the prompt declares as one, what the tests check objects for, or whose objects they tell to do
    something that no value does; and what is written like a class, if they want anything of its objects that no value
    has, or combine its objects with each other.

    Args:
        setup: what precedes the tests.
        tests: the tests.
        entry: the name of what `candidate` is.
    """
    found = {node.name for node in ast.walk(setup) if isinstance(node, ast.ClassDef)}
    names = {"candidate": entry.rpartition(".")[2]}
    for node in ast.walk(tests):
        if isinstance(node, ast.ImportFrom):
            names |= {one.asname: one.name for one in node.names if one.asname}
    uses = _Uses(tests)
    found |= {names.get(name, name) for name in uses.certain()}
    found |= {known for name in uses.likely() if (known := names.get(name, name))[:1].isupper()}
    return found | {""} if names["candidate"] in found else found


class _Uses:
    """Names whose objects are used as those of a class."""

    def __init__(self, tests: ast.Module) -> None:
        self._nodes = list(ast.walk(tests))
        # Names of what was made by a call, with the names that were called.
        self._made: dict[str, set[str]] = {}
        for _ in range(2):
            for node in self._nodes:
                for target, value in _bindings(node):
                    self._made.setdefault(target, set()).update(self._makers(value))

    def certain(self) -> set[str]:
        """Names that cannot be those of functions."""
        return {name for node in self._nodes for name in self._checked_or_told(node)}

    def likely(self) -> set[str]:
        """Names that are those of classes, if they are written like these."""
        return {name for node in self._nodes for name in self._used(node)}

    def _checked_or_told(self, node: ast.AST) -> set[str]:
        match node:
            case ast.Call(func=func, args=[_, kinds, *_]) if _name(func) in _CLASS_CHECKS:
                return {name for part in ast.walk(kinds) if (name := _name(part))}
            case ast.Expr(value=ast.Call(func=ast.Attribute(value=value, attr=attr))) if attr not in _OF_VALUES:
                return self._maker(value)
        return set()

    def _used(self, node: ast.AST) -> set[str]:
        match node:
            case ast.Attribute(value=value, attr=attr) if attr not in _OF_VALUES:
                while isinstance(value, ast.Subscript):
                    value = value.value
                return self._maker(value) | ({value.id} if isinstance(value, ast.Name) else set())
            case ast.BinOp(left=left, right=right):
                return self._makers(left) & self._makers(right)
            case ast.Compare(left=left, comparators=[right]):
                return self._makers(left) & self._makers(right)
            case ast.With(items=items) | ast.AsyncWith(items=items):
                return {name for item in items for name in self._maker(item.context_expr)}
        return set()

    def _maker(self, node: ast.AST) -> set[str]:
        if isinstance(node, ast.Call):
            name = _name(node.func)
            return {name} | self._made.get(name, set()) if name else set()
        return self._made.get(_name(node), set())

    def _makers(self, node: ast.AST) -> set[str]:
        return {name for part in ast.walk(node) for name in self._maker(part)}


def _name(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _bindings(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Names that a node binds, or a function that it defines, and what they are bound to."""
    match node:
        case ast.Assign(targets=targets, value=value):
            yield from ((_name(part), value) for one in targets for part in ast.walk(one) if _name(part))
        case (
            ast.AnnAssign(target=target, value=ast.AST() as value)
            | ast.NamedExpr(target=target, value=value)
            | ast.For(target=target, iter=value)
            | ast.comprehension(target=target, iter=value)
        ):
            yield from ((_name(part), value) for part in ast.walk(target) if _name(part))
        case ast.withitem(context_expr=value, optional_vars=ast.AST() as target):
            yield from ((_name(part), value) for part in ast.walk(target) if _name(part))
        case ast.FunctionDef(name=name, body=body) | ast.AsyncFunctionDef(name=name, body=body):
            for part in (part for one in body for part in ast.walk(one)):
                if isinstance(part, ast.Return | ast.Yield) and part.value is not None:
                    yield name, part.value
