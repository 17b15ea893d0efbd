"""Which parts of tests depend on the program: what they fail by there, or skip, is its doing and not their own fault.

An approximation by names, for a whole file: a name that is once bound to what comes of the program depends on it.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Callable, Iterable, Iterator
from types import CodeType, TracebackType

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
_PUTS = frozenset({"append", "appendleft", "add", "extend", "insert", "update", "setdefault", "put", "push"})
_LEAVES = ast.Return | ast.Continue | ast.Break | ast.Raise


class Taint:
    """The names of one file of tests that depend on the program.

    Args:
        tree: the tests.
        names: what they have of the program.
    """

    def __init__(self, tree: ast.Module, names: Iterable[str]) -> None:
        self._nodes = list(ast.walk(tree))
        self._parents = {child: node for node in self._nodes for child in ast.iter_child_nodes(node)}
        self._functions: dict[str, list[_Function]] = {}
        for node in self._nodes:
            if isinstance(node, _Function):
                self._functions.setdefault(node.name, []).append(node)
        # HumanEval's `check` is given the function under test.
        self._names = {*names, *(one for check in self._functions.get("check", ()) for one in _parameters(check.args))}
        known = -1
        while known != len(self._names):
            known = len(self._names)
            for node in self._nodes:
                self._names.update(self._bound(node))

    def reaches(self, trace: TracebackType | None, file: str) -> bool:
        """Whether an exception that passed through `file` is of what the program said, or of a branch that it chose."""
        found = False
        while trace is not None and not found:
            if trace.tb_frame.f_code.co_filename == file:
                span = _span(trace.tb_frame.f_code, trace.tb_lasti)
                found = any(self._of_program(node) or self._chosen(node, _branches) for node in self._at(span))
            trace = trace.tb_next
        return found

    def decides(self, node: ast.AST) -> bool:
        """Whether the program decides if a part of the tests is run."""
        return self._chosen(node, _conditions)

    def skips(self, function: str) -> bool:
        """Whether the program decides if a test is skipped, by a mark."""
        return any(self._of_program(mark) for one in self._functions.get(function, ()) for mark in one.decorator_list)

    def _chosen(self, node: ast.AST, conditions: Callable[[ast.AST, ast.AST], Iterator[ast.AST]]) -> bool:
        while (parent := self._parents.get(node)) is not None:
            if any(self._of_program(part) for part in conditions(parent, node)):
                return True
            node = parent
        return False

    def _at(self, span: tuple[int | None, ...]) -> Iterator[ast.AST]:
        for node in self._nodes:
            if isinstance(node, ast.expr | ast.stmt):
                place = (node.lineno, node.end_lineno, node.col_offset, node.end_col_offset)
                if place == span:
                    yield node

    def _of_program(self, node: ast.AST) -> bool:
        for part in ast.walk(node):
            name = part.id if isinstance(part, ast.Name) else part.attr if isinstance(part, ast.Attribute) else ""
            if name in self._names:
                return True
        return False

    def _bound(self, node: ast.AST) -> Iterator[str]:
        """Names that a node binds to what comes of the program, or to what holds or returns it."""
        match node:
            case ast.Assign(targets=targets, value=value) if self._of_program(value):
                yield from _targets(*targets)
            case (
                ast.AnnAssign(target=target, value=ast.expr() as value)
                | ast.AugAssign(target=target, value=value)
                | ast.NamedExpr(target=target, value=value)
                | ast.For(target=target, iter=value)
                | ast.AsyncFor(target=target, iter=value)
                | ast.comprehension(target=target, iter=value)
                | ast.withitem(context_expr=value, optional_vars=ast.expr() as target)
            ) if self._of_program(value):
                yield from _targets(target)
            case ast.Call(func=function, args=args, keywords=keywords):
                if any(self._of_program(part) for part in (*args, *(one.value for one in keywords))):
                    yield from self._given(function)
            case ast.Lambda(args=parameters):
                yield from _parameters(parameters)
            case ast.Try(body=body, handlers=handlers) if any(map(self._of_program, body)):
                yield from (one.name for one in handlers if one.name)
            case ast.Return(value=ast.expr() as value) | ast.Yield(value=ast.expr() as value):
                yield from self._enclosing(node) if self._of_program(value) else ()

    def _given(self, function: ast.expr) -> Iterator[str]:
        """What may hold the program's objects once they were given to a function: its parameters, or its owner."""
        if isinstance(function, ast.Attribute) and function.attr in _PUTS:
            yield from _targets(function.value)
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        for one in self._functions.get(name, ()):
            yield from _parameters(one.args)

    def _enclosing(self, node: ast.AST) -> Iterator[str]:
        """The function that a node stands in."""
        above = self._parents.get(node)
        while above is not None and not isinstance(above, _Function):
            above = self._parents.get(above)
        if above is not None:
            yield above.name


def _branches(parent: ast.AST, child: ast.AST) -> Iterator[ast.AST]:
    """What decides, in a statement or expression, whether this part of it is evaluated or another."""
    if isinstance(parent, ast.If | ast.While | ast.IfExp) and child is not parent.test:
        yield parent.test
    elif isinstance(parent, ast.Match) and child is not parent.subject:
        yield parent.subject
    elif isinstance(parent, ast.BoolOp) and isinstance(child, ast.expr):
        yield from parent.values[: parent.values.index(child)]
    elif isinstance(parent, ast.Try) and child not in parent.body:
        yield from parent.body


def _conditions(parent: ast.AST, child: ast.AST) -> Iterator[ast.AST]:
    """What decides whether a part of a statement or expression is evaluated at all."""
    yield from _branches(parent, child)
    if isinstance(parent, ast.For | ast.AsyncFor) and child is not parent.iter:
        yield parent.iter
    elif isinstance(parent, _Comprehension):
        yield from (one.iter for one in parent.generators)
    body = getattr(parent, "body", None)
    for before in itertools.takewhile(lambda one: one is not child, body if isinstance(body, list) else ()):
        if any(isinstance(part, _LEAVES) for part in ast.walk(before)):
            yield before


def _span(code: CodeType, at: int) -> tuple[int | None, ...]:
    for index, span in enumerate(code.co_positions()):
        if index == at // 2:
            return span
    return ()


def _targets(*targets: ast.expr) -> Iterator[str]:
    """Names that are bound, or that hold what is: `xs` for `xs[0]`, and `path` for `self.path`."""
    for target in targets:
        if isinstance(target, ast.Attribute):
            yield target.attr
            continue
        for part in ast.iter_child_nodes(target):
            if isinstance(part, ast.expr):
                yield from _targets(part)
        if isinstance(target, ast.Name):
            yield target.id


def _parameters(arguments: ast.arguments) -> Iterator[str]:
    for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg):
        if one is not None and one.arg not in ("self", "cls"):
            yield one.arg
