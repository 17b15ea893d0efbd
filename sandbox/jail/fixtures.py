"""The fixtures of tests: those that the file defines, as pytest makes and ends them, and a few of pytest's own."""

from __future__ import annotations

import contextlib
import inspect
import io
import itertools
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from sandbox.jail.asking import run
from sandbox.jail.handles import UnsupportedError
from sandbox.jail.pytest_api import Fixture, Parameters

_BUILTIN = ("request", "capsys", "capfd", "monkeypatch")
# Tests in HumanEval's manner ask for the function under test by a parameter.
_CANDIDATES = ("candidate",)


class Captured(NamedTuple):
    """What `capsys.readouterr` gives."""

    out: str
    err: str


class _Capture:
    def __init__(self) -> None:
        self._kept = sys.stdout, sys.stderr
        self._open()

    def _open(self) -> None:
        self._streams = io.StringIO(), io.StringIO()
        sys.stdout, sys.stderr = self._streams

    def readouterr(self) -> Captured:
        """What was printed since the last time."""
        texts = [stream.getvalue() for stream in self._streams]
        self._open()
        return Captured(*texts)

    def close(self) -> None:
        sys.stdout, sys.stderr = self._kept


class _Request:
    def __init__(self, fixtures: Fixtures, params: dict[str, Any], name: str, instance: Any) -> None:
        self._fixtures = fixtures
        self.instance, self.cls, self.fixturename = instance, type(instance), name
        if name in params:
            self.param = params[name]

    def getfixturevalue(self, name: str) -> Any:
        """Another fixture."""
        return self._fixtures.value(name)

    def addfinalizer(self, end: Callable[[], None]) -> None:
        """Something to do at the end of the test."""
        self._fixtures.ends.append(end)


class Fixtures:
    """The fixtures of one test."""

    def __init__(
        self, namespace: dict[str, Any], instance: Any, shared: dict[Any, Any], last: list[Callable[[], None]]
    ) -> None:
        found = {value.name: value for value in namespace.values() if isinstance(value, Fixture)}
        if instance is not None:
            for name in dir(type(instance)):
                value = inspect.getattr_static(type(instance), name)
                if isinstance(value, Fixture):
                    found[value.name] = value.__get__(instance)
        self._known, self._namespace = found, namespace
        self._instance, self._shared, self._last = instance, shared, last
        self._values: dict[str, Any] = {}
        self._params: dict[str, Any] = {}
        self.ends: list[Callable[[], None]] = []

    def unknown(self, wanted: list[str], values: dict[str, Any]) -> str:
        """The first name that is neither a fixture nor a value; "" if there is none."""
        known = {*self._known, *values, *_BUILTIN, *_CANDIDATES}
        return next((name for name in wanted if name not in known), "")

    def automatic(self) -> list[str]:
        """Names of the fixtures that every test has."""
        return [name for name, one in self._known.items() if one.autouse]

    def parameter_sets(
        self, wanted: list[str], values: dict[str, Any], indirect: dict[str, Any]
    ) -> Iterator[dict[str, Any]]:
        """Every choice of the parameters of the fixtures that a test needs."""
        needed: list[str] = []
        waiting = [name for name in wanted if name not in values]
        while waiting:
            name = waiting.pop(0)
            if name not in needed:
                needed.append(name)
                waiting += _parameters(self._known[name].function) if name in self._known else []
        choices = {
            name: [one.values[0] if isinstance(one, Parameters) else one for one in self._known[name].params or []]
            for name in needed
            if name in self._known and self._known[name].params is not None and name not in indirect
        }
        for chosen in itertools.product(*choices.values()):
            yield dict(zip(choices, chosen, strict=True)) | indirect

    @contextlib.contextmanager
    def opened(self, params: dict[str, Any]) -> Iterator[None]:
        """The fixtures with these parameters, until the test has ended."""
        self._values, self._params, self.ends = {}, params, []
        try:
            yield
        finally:
            while self.ends:
                self.ends.pop()()

    def value(self, name: str) -> Any:
        """The value of a fixture."""
        if name in self._values:
            return self._values[name]
        own = self._known.get(name)
        if own is None:
            self._values[name] = self._builtin(name)
            return self._values[name]
        key = (name, repr(self._params.get(name)))
        if own.scope != "function" and key in self._shared:
            return self._shared[key]
        made = self._make(own, name)
        if own.scope == "function":
            self._values[name] = made
        else:
            self._shared[key] = made
        return made

    def _make(self, own: Fixture, name: str) -> Any:
        arguments = {
            one: _Request(self, self._params, name, self._instance) if one == "request" else self.value(one)
            for one in _parameters(own.function)
        }
        made = own.function(**arguments)
        if inspect.isgenerator(made):
            value = next(made)
            (self.ends if own.scope == "function" else self._last).append(lambda: _finish(made))
            return value
        if inspect.isasyncgen(made):
            value = run(made.__anext__())
            self.ends.append(lambda: run(made.aclose()))
            return value
        return run(made) if inspect.iscoroutine(made) else made

    def _builtin(self, name: str) -> Any:
        if name == "request":
            return _Request(self, self._params, name, self._instance)
        if name in _CANDIDATES:
            return self._namespace["candidate"]
        if name in ("capsys", "capfd"):
            capture = _Capture()
            self.ends.append(capture.close)
            return capture
        if name == "monkeypatch":
            patch = _Patch()
            self.ends.append(patch.undo)
            return patch
        raise UnsupportedError(f"the fixture {name!r} is not known here")


class _Patch:
    """`monkeypatch`, for objects of the tests."""

    def __init__(self) -> None:
        self._undone: list[Callable[[], Any]] = []

    def setattr(self, target: Any, name: Any, *value: Any) -> None:
        """Set an attribute until the test has ended."""
        if isinstance(target, str):
            if value or target.rpartition(".")[0] not in sys.modules:
                raise UnsupportedError(f"{target} cannot be patched from the tests")
            owner, _, attribute = target.rpartition(".")
            target, name, value = sys.modules[owner], attribute, (name,)
        old = getattr(target, name)
        setattr(target, name, *value)
        self._undone.append(lambda: setattr(target, name, old))

    def setitem(self, target: Any, key: Any, value: Any) -> None:
        """Set an item until the test has ended."""
        kept = dict(target)
        target[key] = value
        self._undone.append(lambda: (target.clear(), target.update(kept)))

    def __getattr__(self, name: str) -> Any:
        raise UnsupportedError(f"monkeypatch.{name} is not known here")

    def undo(self) -> None:
        """Take everything back."""
        while self._undone:
            self._undone.pop()()


def _parameters(function: Any) -> list[str]:
    return [one.name for one in inspect.signature(function).parameters.values() if one.default is one.empty]


def _finish(generator: Iterator[Any]) -> None:
    for _ in generator:
        raise UnsupportedError("a fixture yields more than once")
