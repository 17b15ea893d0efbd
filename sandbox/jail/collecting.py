"""Runs everything that a file of tests contains, as pytest would, and tells what cannot be run.

Test functions and classes with fixtures and parameters, `unittest` cases, coroutines, and HumanEval's `check`. What the
file has run itself, to its end, is not run again.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from sandbox.jail.asking import run
from sandbox.jail.fixtures import Fixtures
from sandbox.jail.handles import Handle, HandleType, UnsupportedError
from sandbox.jail.pytest_api import ExpectedFailure, Failed, Fixture, Mark, Parameters, Skipped

_MAX_TESTS = 10_000


class Collection:
    """The tests of one namespace.

    Args:
        namespace: what the file defines.
        finished: qualified names of the functions that the file has called itself and that have returned.
        excused: takes the names of tests that a mark skips, and what tests raise to say that they do not count.
    """

    def __init__(self, namespace: dict[str, Any], finished: set[str], excused: list[BaseException | str]) -> None:
        self._namespace = namespace
        self._finished = finished
        self._excused = excused
        self._shared: dict[Any, Any] = {}
        self._ends: list[Callable[[], None]] = []
        # Functions with parameters that are no fixtures: helpers, if other tests call them.
        self._waiting: list[tuple[str, str]] = []

    def run(self, candidate: Any) -> None:
        """Run all of it.

        Raises:
            BaseException: what the first failure raised.
        """
        try:
            check = self._namespace.get("check")
            if callable(check) and "check" not in self._finished and (given := _fitting(check, candidate)) is not None:
                _conclude(check(*given))
            self._hook("setup_module", "setUpModule")
            for name, value in list(self._namespace.items()):
                if isinstance(value, type) and value.__module__ == "__main__" and not isinstance(value, HandleType):
                    self._class(value)
                elif name.startswith("test") and callable(value) and not isinstance(value, type | Handle | Fixture):
                    self._function(value, None, [])
            for name, fixture in self._waiting:
                if name not in self._finished:
                    raise UnsupportedError(f"the fixture {fixture!r} is not known here")
            self._hook("teardown_module", "tearDownModule")
        finally:
            while self._ends:
                self._ends.pop()()

    def _hook(self, *names: str, owner: Any = None, argument: Any = None) -> None:
        for name in names:
            hook = self._namespace.get(name) if owner is None else getattr(owner, name, None)
            if inspect.isfunction(hook) or inspect.ismethod(hook):
                _conclude(hook(*[argument][: len(inspect.signature(hook).parameters)]))

    # Classes

    def _class(self, kind: type) -> None:
        unittest = sys.modules.get("unittest")
        if unittest is not None and issubclass(kind, unittest.TestCase):
            _cases(unittest, kind, self._finished)
            return
        for name, part in list(vars(kind).items()):
            if isinstance(part, type) and name.startswith("Test"):
                self._class(part)
        names = dict.fromkeys(name for base in reversed(kind.__mro__) for name in vars(base))
        tests = [name for name in names if name.startswith("test") and inspect.isroutine(getattr(kind, name, None))]
        tests = [name for name in tests if getattr(kind, name).__qualname__ not in self._finished]
        if not tests or "test" not in kind.__name__.lower():
            return
        marks = _marks(kind)
        if _skipped(marks):
            return
        self._hook("setup_class", owner=kind)
        for name in tests:
            self._function(getattr(kind, name), kind, marks)
        self._hook("teardown_class", owner=kind)

    # Functions

    def _function(self, function: Any, kind: type | None, class_marks: list[Mark]) -> None:
        name = getattr(function, "__qualname__", "")
        if name in self._finished:
            return
        marks = [*_marks(function), *class_marks, *_listed(self._namespace.get("pytestmark", []))]
        if _skipped(marks):
            self._excused.append(getattr(function, "__name__", ""))
            return
        rows = list(itertools.islice(_rows(marks), _MAX_TESTS + 1))
        if len(rows) > _MAX_TESTS:
            raise UnsupportedError("too many sets of parameters")
        for row in rows:
            if not _skipped(row.marks):
                instance = _instance(kind) if kind is not None else None
                test = function if instance is None else getattr(instance, function.__name__)
                names = inspect.signature(test).parameters.values()
                wanted = [one.name for one in names if one.default is one.empty and one.kind in (0, 1, 3)]
                wanted += [one for mark in marks if mark.name == "usefixtures" for one in mark.args]
                if unknown := Fixtures(self._namespace, instance, {}, []).unknown(wanted, row.values):
                    self._waiting.append((name, unknown))
                    return
                self._run_once(test, instance, row, wanted, [*marks, *row.marks])

    def _run_once(self, function: Any, instance: Any, row: Row, wanted: list[str], marks: list[Mark]) -> None:
        """Run a test with one set of parameters, once for every choice of parameters of its fixtures."""
        found = Fixtures(self._namespace, instance, self._shared, self._ends)
        passed = inspect.signature(function).parameters
        before, after = ("setup_method", "setup"), ("teardown_method", "teardown")
        for params in found.parameter_sets([*wanted, *found.automatic()], row.values, row.params):
            with found.opened(params):
                self._hook(*(before if instance is not None else ["setup_function"]), owner=instance, argument=function)
                for name in found.automatic():
                    found.value(name)
                arguments = {name: found.value(name) for name in wanted if name not in row.values} | row.values
                given = {name: value for name, value in arguments.items() if name in passed}
                _expecting(marks, functools.partial(function, **given), self._excused)
                self._hook(
                    *(after if instance is not None else ["teardown_function"]), owner=instance, argument=function
                )


def _cases(unittest: Any, kind: type, finished: set[str]) -> None:
    """Run the methods of a `unittest` case.

    Raises:
        BaseException: the first failure.
    """
    loader = unittest.defaultTestLoader
    names = [name for name in loader.getTestCaseNames(kind) if getattr(kind, name).__qualname__ not in finished]
    for name in names:
        test = getattr(kind, name)
        if inspect.iscoroutinefunction(test) and not issubclass(kind, unittest.IsolatedAsyncioTestCase):
            # Nobody would wait for it.
            setattr(kind, name, lambda self, test=test: run(test(self)))

    class Result(unittest.TestResult):  # type: ignore[misc]
        def addError(self, test: Any, err: Any) -> None:  # noqa: N802 - unittest's name
            self.raised = err[1]
            super().addError(test, err)

        def addFailure(self, test: Any, err: Any) -> None:  # noqa: N802
            self.raised = err[1]
            super().addFailure(test, err)

        def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:  # noqa: N802
            if err is not None:
                self.raised = err[1]
            super().addSubTest(test, subtest, err)

        def addSkip(self, test: Any, reason: str) -> None:  # noqa: N802
            method = getattr(test, getattr(test, "_testMethodName", ""), None)
            if not (getattr(method, "__unittest_skip__", False) or getattr(type(test), "__unittest_skip__", False)):
                self.raised = Skipped(reason).with_traceback(sys.exc_info()[2])
            super().addSkip(test, reason)

    result = Result()
    result.failfast = True
    unittest.TestSuite([kind(name) for name in names]).run(result)
    if (raised := getattr(result, "raised", None)) is not None:
        raise raised
    if not result.wasSuccessful():
        raise AssertionError("a test that is expected to fail has passed")


def _fitting(check: Any, candidate: Any) -> tuple[Any, ...] | None:
    """Arguments for `check`; None if it is something else than HumanEval's, such as a helper with other parameters."""
    for given in ((candidate,), ()):
        try:
            inspect.signature(check).bind(*given)
        except (TypeError, ValueError):
            continue
        return given
    return None


def _conclude(result: Any) -> None:
    """Take in what a test returned: it may have to be waited for, and False is not what a test says in passing.

    Raises:
        AssertionError: it is False.
    """
    if inspect.iscoroutine(result):
        result = run(result)
    if inspect.isgenerator(result) or inspect.isasyncgen(result):
        raise UnsupportedError("a test that yields cannot be run")
    if result is False:
        raise AssertionError("a test returned False")


def _expecting(marks: list[Mark], call: Callable[[], Any], excused: list[BaseException | str]) -> None:
    expected = next((mark for mark in marks if mark.name == "xfail" and _holds(mark)), None)
    if expected is not None and expected.kwargs.get("run") is False:
        return
    try:
        _conclude(call())
    except ExpectedFailure as error:
        excused.append(error)
        return
    except Exception:
        if expected is None:
            raise
        return
    if expected is not None and expected.kwargs.get("strict"):
        raise Failed("a test that is expected to fail has passed")


class Row(NamedTuple):
    """One set of parameters: arguments of the test, parameters of its fixtures, and marks."""

    values: dict[str, Any]
    params: dict[str, Any]
    marks: list[Mark]


def _rows(marks: list[Mark]) -> Iterator[Row]:
    """Every set of parameters of a test."""
    axes = []
    for mark in marks:
        if mark.name == "parametrize":
            given = [*mark.args, *(mark.kwargs[key] for key in ("argnames", "argvalues") if key in mark.kwargs)]
            names = [part.strip() for part in given[0].split(",")] if isinstance(given[0], str) else list(given[0])
            indirect = mark.kwargs.get("indirect", False)
            passed_on = set(names) if indirect is True else set(indirect or ())
            axes.append([_row(names, row, passed_on) for row in given[1]])
    for chosen in itertools.product(*axes):
        joined = Row({}, {}, [])
        for row in chosen:
            joined.values.update(row.values)
            joined.params.update(row.params)
            joined.marks.extend(row.marks)
        yield joined


def _row(names: list[str], row: Any, passed_on: set[str]) -> Row:
    marks = row.marks if isinstance(row, Parameters) else []
    values = row.values if isinstance(row, Parameters) else (row,) if len(names) == 1 else tuple(row)
    if len(values) != len(names):
        raise UnsupportedError(f"parameters {names} do not fit their values")
    named = dict(zip(names, values, strict=True))
    direct = {name: value for name, value in named.items() if name not in passed_on}
    return Row(direct, {name: value for name, value in named.items() if name in passed_on}, marks)


def _instance(kind: type) -> Any:
    try:
        inspect.signature(kind).bind()
    except TypeError:
        raise UnsupportedError(f"the test class {kind.__name__} wants arguments") from None
    except ValueError:
        pass
    return kind()


def _marks(owner: Any) -> list[Mark]:
    if isinstance(owner, type):
        return [mark for base in owner.__mro__ for mark in _listed(vars(base).get("pytestmark", []))]
    return _listed(getattr(owner, "pytestmark", []))


def _listed(marks: Any) -> list[Mark]:
    # The program can define `pytestmark` too, for tests that import all that it has.
    return [one for one in (marks if isinstance(marks, list | tuple) else [marks]) if isinstance(one, Mark)]


def _holds(mark: Mark) -> bool:
    conditions = [*mark.args, *([mark.kwargs["condition"]] if "condition" in mark.kwargs else [])]
    if any(isinstance(one, str) for one in conditions):
        raise UnsupportedError("conditions of marks must not be text")
    return all(conditions)


def _skipped(marks: list[Mark]) -> bool:
    return any(mark.name == "skip" or (mark.name == "skipif" and _holds(mark)) for mark in marks)
