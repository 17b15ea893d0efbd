"""What tests import from pytest, where there is none: marks, fixtures and parameters for `collecting`, and assertions.

A name that is not here makes the tests unusable, so nothing is left out in silence.
"""

from __future__ import annotations

import builtins
import contextlib
import importlib
import math
import re
import sys
import types
import warnings as python_warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Any

from sandbox.jail.handles import UnsupportedError

_RELATIVE, _ABSOLUTE = 1e-6, 1e-12


class Skipped(BaseException):
    """The tests skip themselves while they run."""


class ExpectedFailure(BaseException):
    """The tests say that they fail from here on."""


class Failed(AssertionError):  # noqa: N818 - pytest's name
    """What pytest raises where a test fails without an assertion."""


@dataclass
class Mark:
    """One mark of a test, a class or a set of parameters."""

    name: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if len(args) == 1 and not kwargs and (isinstance(args[0], types.FunctionType | type)):
            target = args[0]
            target.pytestmark = [*vars(target).get("pytestmark", []), self]  # type: ignore[union-attr]
            return target
        return Mark(self.name, (*self.args, *args), {**self.kwargs, **kwargs})


class _Marks:
    def __getattr__(self, name: str) -> Mark:
        return Mark(name)


@dataclass
class Parameters:
    """One set of parameters, as `pytest.param` makes it."""

    values: tuple[Any, ...]
    marks: list[Mark]


@dataclass
class Fixture:
    """A fixture: a function whose result, or what it yields, is an argument of tests."""

    function: Callable[..., Any]
    name: str
    scope: str
    params: list[Any] | None
    autouse: bool

    def __get__(self, instance: Any, owner: Any = None) -> Fixture:
        bound = self.function.__get__(instance) if instance is not None else self.function
        return Fixture(bound, self.name, self.scope, self.params, self.autouse)

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise Failed(f"fixture {self.name!r} was called directly")


def fixture(function: Any = None, **options: Any) -> Any:
    """`pytest.fixture`."""
    if function is None:
        return lambda made: fixture(made, **options)
    params = options.get("params")
    scope = options.get("scope", "function")
    return Fixture(
        function,
        options.get("name") or function.__name__,
        scope if isinstance(scope, str) else "function",
        None if params is None else list(params),
        bool(options.get("autouse")),
    )


def param(*values: Any, marks: Any = (), **_: Any) -> Parameters:
    """`pytest.param`."""
    return Parameters(values, [marks] if isinstance(marks, Mark) else list(marks))


class ExceptionInfo:
    """What `pytest.raises` has caught."""

    value: Any = None
    tb: Any = None

    @property
    def type(self) -> Any:
        """Its class."""
        return type(self.value)

    @property
    def typename(self) -> str:
        """The name of its class."""
        return type(self.value).__name__

    def match(self, pattern: Any) -> bool:
        """Assert that its text matches."""
        if re.search(pattern, str(self.value)) is None:
            raise Failed(f"Regex pattern did not match: {pattern!r}")
        return True

    def exconly(self) -> str:
        """Its class and text."""
        return f"{self.typename}: {self.value}"


class _Raises:
    def __init__(self, expected: Any, match: Any, check: Any) -> None:
        self._expected, self._match, self._check = expected, match, check
        self._info = ExceptionInfo()

    def __enter__(self) -> ExceptionInfo:
        return self._info

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        if error is None:
            raise Failed(f"DID NOT RAISE {self._expected!r}")
        if not isinstance(error, self._expected):
            return False
        self._info.value, self._info.tb = error, trace
        if self._match is not None:
            self._info.match(self._match)
        if self._check is not None and not self._check(error):
            raise Failed("the exception is not the expected one")
        return True


def raises(expected: Any, *args: Any, match: Any = None, check: Any = None, **kwargs: Any) -> Any:
    """`pytest.raises`, as a context manager or with a function to call."""
    kinds = expected if isinstance(expected, tuple) else (expected,)
    if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
        raise TypeError("expected exceptions must be classes of exceptions")
    context = _Raises(expected, match, check)
    if not args:
        return context
    with context as info:
        args[0](*args[1:], **kwargs)
    return info


@contextlib.contextmanager
def warns(expected: Any = Warning, *, match: Any = None) -> Iterator[list[Any]]:
    """`pytest.warns`, for warnings of the tests' own process."""
    with python_warnings.catch_warnings(record=True) as caught:
        python_warnings.simplefilter("always")
        yield caught
    fitting = [one for one in caught if issubclass(one.category, expected)]
    if not any(match is None or re.search(match, str(one.message)) for one in fitting):
        raise Failed(f"DID NOT WARN {expected!r}")


class approx:  # noqa: N801 - pytest's name
    """`pytest.approx`: numbers, and sequences, mappings and arrays of numbers."""

    __hash__ = None  # type: ignore[assignment]
    __array_ufunc__ = None
    __array_priority__ = 100

    def __init__(self, expected: Any, rel: Any = None, abs: Any = None, nan_ok: bool = False) -> None:
        if isinstance(expected, set | frozenset):
            raise TypeError("pytest.approx() does not support sets")
        self._expected, self._rel, self._abs, self._nan_ok = expected, rel, abs, nan_ok

    def __eq__(self, actual: Any) -> bool:
        return self._matches(_listed(actual), _listed(self._expected))

    def __ne__(self, actual: Any) -> bool:
        return not self == actual

    def __repr__(self) -> str:
        return f"approx({self._expected!r})"

    def _matches(self, actual: Any, expected: Any) -> bool:
        if isinstance(expected, Mapping):
            same = isinstance(actual, Mapping) and actual.keys() == expected.keys()
            return same and all(self._matches(actual[key], value) for key, value in expected.items())
        if isinstance(expected, Sequence) and not isinstance(expected, str | bytes):
            same = isinstance(actual, Sequence) and not isinstance(actual, str | bytes) and len(actual) == len(expected)
            return same and all(self._matches(one, other) for one, other in zip(actual, expected, strict=True))
        numbers = (int, float, complex, Decimal, Fraction)
        if not isinstance(expected, numbers) or not isinstance(actual, numbers):
            return type(actual) is type(expected) and bool(actual == expected)
        if isinstance(expected, bool) or isinstance(actual, bool):
            return actual is expected or (not isinstance(expected, bool) and actual == expected)
        return self._near(actual, expected)

    def _near(self, actual: Any, expected: Any) -> bool:
        if actual == expected:
            return True
        if math.isnan(builtins.abs(expected)):
            return self._nan_ok and math.isnan(builtins.abs(actual))
        if math.isinf(builtins.abs(expected)):
            return False
        exact = isinstance(expected, Decimal) or isinstance(actual, Decimal)
        kind: Any = Decimal if exact else float
        absolute = kind(str(_ABSOLUTE if self._abs is None else self._abs))
        relative = kind(str(_RELATIVE if self._rel is None else self._rel)) * builtins.abs(kind(builtins.abs(expected)))
        tolerance = absolute if self._rel is None and self._abs is not None else max(absolute, relative)
        return bool(builtins.abs(kind(actual) - kind(expected) if exact else actual - expected) <= tolerance)


def _listed(value: Any) -> Any:
    return value.tolist() if type(value).__module__ == "numpy" else value


def skip(reason: str = "", **_: Any) -> Any:
    """`pytest.skip`."""
    raise Skipped(reason)


def fail(reason: str = "", **_: Any) -> Any:
    """`pytest.fail`."""
    raise Failed(reason)


def xfail(reason: str = "") -> Any:
    """`pytest.xfail`."""
    raise ExpectedFailure(reason)


def importorskip(name: str, *_: Any, **__: Any) -> Any:
    """`pytest.importorskip`; what is missing makes the tests unusable."""
    return importlib.import_module(name)


def _main(*_: Any, **__: Any) -> int:
    """`pytest.main`, which has nothing to do: everything is collected anyway."""
    return 0


class _Module(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name[:2] == "__":
            raise AttributeError(name)
        raise UnsupportedError(f"pytest.{name} is not known here")


def install() -> None:
    """Let tests import pytest; also where it is installed, so that they mean the same everywhere."""
    module = _Module("pytest")
    shared = (fixture, param, raises, warns, approx, skip, fail, xfail, importorskip, ExceptionInfo)
    vars(module).update({one.__name__: one for one in shared})
    vars(module).update(mark=_Marks(), main=_main, FixtureRequest=Any, CaptureFixture=Any, MonkeyPatch=Any)
    vars(module)["__path__"] = []
    sys.modules["pytest"] = module
