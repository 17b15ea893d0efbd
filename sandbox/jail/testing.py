"""Runs trusted tests against the program, whose every use is a request over the RPC, and reports how they ended."""

from __future__ import annotations

import ast
import builtins
import contextlib
import functools
import importlib.util
import inspect
import io
import sys
import types
from collections.abc import Callable, Iterable
from typing import Any

from sandbox.jail import pytest_api
from sandbox.jail.answering import ProgramPeer
from sandbox.jail.asking import TestPeer
from sandbox.jail.class_names import class_names
from sandbox.jail.collecting import Collection
from sandbox.jail.handles import Handle, HandleType, UnsupportedError
from sandbox.jail.program import compiled, report
from sandbox.jail.tainting import Taint
from sandbox.jail.watching import ASSERTED, RAN, SWALLOWED, Watched

# What tests import the program as. Of other modules the program may not take the place.
MODULES = frozenset({
    "solution", "solutions", "program", "candidate", "submission", "answer", "main", "my_module", "your_module",
    "module", "module_name", "your_code", "code_module", "implementation", "task", "source", "my_solution",
    "your_solution", "solution_module",
})  # fmt: skip
# What tests forget to import is not the program's either: it would decide what is equal.
_MODULES = {"np": "numpy"} | {
    name: name
    for name in (
        "math", "cmath", "numpy", "pytest", "unittest", "collections", "itertools", "functools", "operator", "re",
        "json", "random", "statistics", "copy", "datetime", "decimal", "fractions",
    )
}  # fmt: skip
_RECURSION = 20_000
_ENUMS = frozenset({"Enum", "IntEnum", "StrEnum", "Flag", "IntFlag"})
_OWN_ERRORS = (ImportError, NameError, OSError, SyntaxError, pytest_api.Skipped, UnsupportedError)
_FILE = "test.py"


def test(job: dict[str, Any], namespace: dict[str, Any]) -> int:
    """Run the tests and report how they ended."""
    peer = TestPeer(namespace, mutates=bool(job.get("mutates")))
    sys.stdin = io.StringIO()
    sys.setrecursionlimit(_RECURSION)
    try:
        report(_Tests(job, namespace, peer).run())
    except UnsupportedError as error:
        report({"unusable": str(error)})
    except SyntaxError as error:
        report({"unusable": f"SyntaxError: {error}"})
    return 0


class _Rehearsal(TestPeer):
    """The tests' end of a conversation with a program in the same process, which is one of ours."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        program: dict[str, Any] = {"__name__": "program"}
        exec("def f(x):\n    return [x]\n", program)
        self._other = ProgramPeer(program, io.BytesIO())
        self._other.entry = program["f"]
        super().__init__(namespace, mutates=False)

    def send(self, message: dict[str, Any]) -> None:
        """Have it answered."""
        self._reply = self._other.answer(message["call"]) | self._other.news()

    def receive(self) -> dict[str, Any]:
        """The answer."""
        self.take_in(self._reply)
        return self._reply


def warm_up() -> None:
    """Do what tests do, often enough for the interpreter to specialise the code; before any fork."""
    modules, finders = dict(sys.modules), list(sys.meta_path)
    job = {"setup": [""], "source": "def check(f):\n    assert f(1) == [1]\n    assert f('a') != 2.5\n", "entry": "f"}
    for _ in range(16):
        namespace: dict[str, Any] = {"__name__": "__main__", "__builtins__": builtins}
        if "passed" not in _Tests(job, namespace, _Rehearsal(namespace)).run():
            raise OSError("the rehearsal of tests failed")
        sys.meta_path[:] = finders
        for name in sys.modules.keys() - modules.keys():
            del sys.modules[name]


class _Tests:
    """One file of tests, and what it has done so far."""

    def __init__(self, job: dict[str, Any], namespace: dict[str, Any], peer: TestPeer) -> None:
        """Compile everything.

        Raises:
            SyntaxError: the tests are no Python.
            UnsupportedError: they can fail by nothing.
        """
        self._peer, self._namespace, self._entry = peer, namespace, job["entry"]
        self._setup, setup = compiled(job["setup"], "setup.py")
        setup_tree = ast.parse(setup)
        self._stubs = _stubs(setup_tree)
        self._source = job["source"]
        self._tree = ast.parse(self._source)
        tops = (*setup_tree.body, *self._tree.body)
        self._class_names = class_names(setup_tree, self._tree, self._entry)
        self._classes = {node.name for node in tops if isinstance(node, ast.ClassDef)} - self._stubs
        self._finished: set[str] = set()
        self._taken: Iterable[str] = ()
        self._asserted = 0
        self._printed: AssertionError | None = None
        nodes = list(ast.walk(self._tree))
        imported = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
        self._frameworks = {"unittest", "pytest"} & {
            name.partition(".")[0] for node in imported for name in _imported(node)
        }
        named = [node for node in nodes if isinstance(node, ast.Name)]
        self._wanted, self._bound = {node.id for node in named}, {n.id for n in named if isinstance(n.ctx, ast.Store)}
        self._excused: list[BaseException | str] = []
        defined = {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
        watched = Watched(defined)
        if not self._frameworks and not any(map(_can_fail, nodes)):
            raise UnsupportedError("the tests assert nothing")
        self._code = compile(watched.visit(self._tree), _FILE, "exec")
        self._assertions = watched.assertions

    def run(self) -> dict[str, Any]:
        """Run everything; the report."""
        try:
            self._run()
        except UnsupportedError as error:
            return {"unusable": str(error)}
        except SystemExit as error:
            failed = error.code or self._of_program(error)
            return {"failed": "SystemExit"} if failed else self._passed()
        except BaseException as error:  # noqa: BLE001 - tests fail by any exception
            return self._failed(error)
        return self._passed()

    def _passed(self) -> dict[str, Any]:
        if (unseen := self._peer.callback_failed or self._printed) is not None:
            return self._failed(unseen)
        if any(self._is_excuse(one) for one in self._excused):
            return {"failed": "Skipped"}
        if self._assertions and not self._asserted:
            if any(self._taint.decides(node) for node in self._assertions):
                return {"failed": "nothing was asserted"}
            return {"unusable": "none of its assertions was run"}
        return {"passed": True, "calls": self._peer.calls}

    @functools.cached_property
    def _taint(self) -> Taint:
        imported = {
            (one.asname or one.name).partition(".")[0]
            for node in ast.walk(self._tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for one in node.names
            if {one.name, getattr(node, "module", None)} & (MODULES | {self._entry})
        }
        return Taint(self._tree, {self._entry.rpartition(".")[2], "candidate", *self._taken, *imported})

    def _is_excuse(self, skipped: BaseException | str) -> bool:
        """Whether a test that says that it does not count says so because of the program."""
        if isinstance(skipped, str):
            return self._taint.skips(skipped)
        return self._taint.reaches(skipped.__traceback__, _FILE)

    def _failed(self, error: BaseException) -> dict[str, Any]:
        if self._is_own(error):
            return {"unusable": f"{type(error).__name__}: {error} (see preload and setup)"}
        return {"failed": type(error).__name__}

    def _is_own(self, error: BaseException) -> bool:
        """Whether the tests failed by themselves."""
        if self._of_program(error) or isinstance(error, TimeoutError):
            return False
        if isinstance(error, ImportError) and error.name in MODULES | {self._entry}:
            return False
        if isinstance(error, NameError) and (
            isinstance(error, UnboundLocalError) or error.name not in self._wanted - self._bound
        ):
            # A name that a loop over nothing has not bound is the program's doing, or one in what it returned.
            return False
        if isinstance(error, AttributeError):
            own = isinstance(error.obj, types.ModuleType) and not isinstance(error.obj, _ProgramModule)
        else:
            own = isinstance(error, _OWN_ERRORS)
        return own and not self._taint.reaches(error.__traceback__, _FILE)

    def _of_program(self, error: BaseException) -> bool:
        return any(error is one for one in self._peer.program_raised)

    def _run(self) -> None:
        namespace = self._namespace
        pytest_api.install()
        exec(self._setup, namespace)
        candidate = self._take_names()
        namespace[self._entry] = namespace["candidate"] = candidate
        sys.meta_path.append(_Modules(self._peer, namespace, self._entry))
        namespace[RAN], namespace[ASSERTED], namespace[SWALLOWED] = self._watch, self._count, self._swallow
        if "unittest" in self._frameworks:
            _quieten_unittest()
        try:
            exec(self._code, namespace)
        except SystemExit as error:
            if error.code or self._of_program(error):
                raise
        Collection(namespace, self._finished, self._excused).run(candidate)

    def _take_names(self) -> Any:
        """What the tests use and do not define themselves, from the program; never what is built in.

        Classes that both define are the tests': objects of the program's cross by their attributes.

        Returns:
            The function under test.
        """
        namespace = self._namespace
        trusted = {*_defined(self._tree), *vars(builtins), *(namespace.keys() - self._stubs), RAN, ASSERTED}
        wanted = self._wanted - trusted - {self._entry}
        for name in wanted & _MODULES.keys():
            with contextlib.suppress(ImportError):
                namespace[name] = importlib.import_module(_MODULES[name])
        wanted -= _MODULES.keys()
        self._peer.shared_classes = self._classes
        self._peer.class_names = self._class_names
        found = self._peer.names(["", *(f"class {name}" for name in sorted(self._classes)), *sorted(wanted)])
        candidate = found.pop("")
        self._taken = found.keys()
        namespace.update(found)
        return candidate

    def _swallow(self) -> None:
        """Take note of a failed assertion that the tests only print."""
        error = sys.exc_info()[1]
        if isinstance(error, AssertionError) and not self._of_program(error):
            self._printed = self._printed or error

    def _count(self) -> None:
        self._asserted += 1

    def _watch(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A test that is known to have run, once it has returned."""
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def waited(*args: Any, **keywords: Any) -> Any:
                result = await function(*args, **keywords)
                self._finished.add(function.__qualname__)
                return result

            return waited

        @functools.wraps(function)
        def called(*args: Any, **keywords: Any) -> Any:
            result = function(*args, **keywords)
            if not inspect.isgenerator(result):
                self._finished.add(function.__qualname__)
            return result

        return called


def _can_fail(node: ast.AST) -> bool:
    """Whether a part of tests is there to fail."""
    if isinstance(node, ast.Call):
        name = ast.unparse(node.func).lower()
        return "assert" in name or "exit" in name
    return isinstance(node, ast.Assert | ast.Raise) or (isinstance(node, ast.Return) and node.value is not None)


def _imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    return [one.name for one in node.names] if isinstance(node, ast.Import) else [node.module or ""]


def _defined(tree: ast.Module) -> set[str]:
    """Names that a file defines at its top."""
    found: set[str] = set()
    for node in tree.body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                found.update((one.asname or one.name).partition(".")[0] for one in names)
            case ast.Assign(targets=targets):
                parts = (part for one in targets for part in ast.walk(one) if isinstance(part, ast.Name))
                found.update(part.id for part in parts if isinstance(part.ctx, ast.Store))
    return found


def _stubs(tree: ast.Module) -> set[str]:
    """What a prompt leaves to the program: functions without a body, and classes with such methods.

    So are enumerations: their members are objects, and one by one the same everywhere.
    """
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            methods = [part for part in node.body if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)]
            bases = {part.id for base in node.bases for part in ast.walk(base) if isinstance(part, ast.Name)}
            if any(_is_empty(part.body) for part in methods) or _is_empty(node.body) or bases & _ENUMS:
                found.add(node.name)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _is_empty(node.body):
            found.add(node.name)
    return found


def _is_empty(body: list[ast.stmt]) -> bool:
    """Whether a body says no more than that there is to be one."""
    return all(
        isinstance(part, ast.Pass)
        or (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))
        or (isinstance(part, ast.Raise) and "NotImplementedError" in ast.unparse(part))
        for part in body
    )


def _quieten_unittest() -> None:
    import unittest

    unittest.main = lambda *_, **__: None  # type: ignore[assignment]


class _ProgramModule(types.ModuleType):
    """The program, to tests that import it."""

    def __init__(self, name: str, peer: TestPeer, namespace: dict[str, Any]) -> None:
        super().__init__(name)
        vars(self).update(_peer=peer, _namespace=namespace)

    def __getattr__(self, name: str) -> Any:
        peer, namespace = vars(self)["_peer"], vars(self)["_namespace"]
        if name == "__all__":
            hidden = vars(builtins).keys() | namespace.keys()
            return [one for one in peer.names(["*"]).get("*", []) if one not in hidden or one in self._own()]
        if name[:2] == "__":
            raise AttributeError(name)
        found = peer.names([name])
        if name not in found:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}", name=name, obj=self)
        return found[name]

    def _own(self) -> set[str]:
        return {name for name, value in vars(self)["_namespace"].items() if isinstance(value, Handle | HandleType)}

    def __setattr__(self, name: str, value: Any) -> None:
        if name[:2] != "__":
            raise UnsupportedError(f"{self.__name__}.{name} cannot be patched from the tests")
        super().__setattr__(name, value)


class _Modules:
    """Finds the program under the names that tests import it by, where nothing else has such a name."""

    def __init__(self, peer: TestPeer, namespace: dict[str, Any], entry: str) -> None:
        self._peer, self._namespace = peer, namespace
        self._names = MODULES | {entry}

    def find_spec(self, name: str, *_: Any) -> Any:
        """See `importlib.abc.MetaPathFinder`."""
        return importlib.util.spec_from_loader(name, self) if name in self._names else None  # type: ignore[arg-type]

    def create_module(self, spec: Any) -> types.ModuleType:
        """See `importlib.abc.Loader`."""
        return _ProgramModule(spec.name, self._peer, self._namespace)

    def exec_module(self, module: types.ModuleType) -> None:
        """See `importlib.abc.Loader`."""
