"""The house: which package knows which, which floor stands on which, and that no import runs in a circle.

A new import that breaks a rule is named with the rule. Imports count wherever they stand in a file, but for those that
only type checkers see.
"""

import ast
import graphlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.sources import ROOT, files

PACKAGES = ("actors", "learner", "sandbox")
#: What a package must not know, of ours and of others.
FORBIDDEN = {
    "sandbox": {"actors", "learner", "benchmarks", "deploy", "tests", "docs", "ray", "zmq", "torch", "vllm"},
    "learner": {"actors", "sandbox", "benchmarks", "deploy", "tests", "docs", "ray", "zmq", "vllm"},
    "actors": {"benchmarks", "deploy", "tests", "docs"},
}
#: The floors of `actors`; a file imports from its own and from those below.
FLOORS = {
    9: {"cli", "commands"},
    8: {"run", "folder", "export", "chat", "pipeline"},
    7: {"stages", "fleet", "doctor", "planning"},
    6: {"control"},
    5: {"roles"},
    4: {"engines"},
    3: {"replay", "weights", "tasks", "models", "curation"},
    2: {"transport", "config", "report"},
    1: {"events", "membership", "observability", "errors", "deadline", "process", "concurrency", "storage"},
}
FLOOR_OF = {f"actors.{room}": floor for floor, rooms in FLOORS.items() for room in rooms}

Graph = Mapping[str, set[str]]


def modules() -> dict[str, Path]:
    """Every module of the three packages by its dotted name."""
    found = {}
    for package in PACKAGES:
        for path in files(package, "*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(path: Path) -> Iterator[str]:
    """Dotted names that a file imports, as far as possible down to the module that defines them."""
    for node in _seen_at_run_time(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else node.module


def _seen_at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            yield from (n for other in child.orelse for n in _seen_at_run_time(other))
            continue
        yield child
        yield from _seen_at_run_time(child)


GRAPH: Graph = {name: {i for i in imports(path) if i in MODULES and i != name} for name, path in MODULES.items()}


def room(module: str) -> str:
    """The folder or loose file right below the package: `actors.replay.ledger` stands in `actors.replay`."""
    return ".".join(module.split(".")[:2])


def circle(graph: Graph) -> list[str]:
    """One circle of imports, or nothing."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


@pytest.mark.parametrize("package", PACKAGES)
def test_no_package_knows_what_it_must_not(package: str) -> None:
    against = {
        f"{name} imports {imported}: {package} must not know {imported.split('.')[0]}"
        for name, path in MODULES.items()
        if room(name).split(".")[0] == package
        for imported in imports(path)
        if imported.split(".")[0] in FORBIDDEN[package]
    }
    assert against == set()


def test_no_arrow_runs_up_a_floor() -> None:
    unknown = {room(name) for name in MODULES if name.startswith("actors.")} - FLOOR_OF.keys()
    assert not unknown, f"{unknown} stand on no floor; give them one in FLOORS"
    upward = {
        f"{name} (floor {FLOOR_OF[room(name)]}) imports {imported} (floor {FLOOR_OF[room(imported)]}): an arrow up; "
        "move what both need down, or hand it in as an argument"
        for name, found in GRAPH.items()
        for imported in found
        if room(name) in FLOOR_OF and room(imported) in FLOOR_OF and FLOOR_OF[room(imported)] > FLOOR_OF[room(name)]
    }
    assert upward == set()


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert " -> ".join(circle(GRAPH)) == ""


def test_no_rooms_import_each_other_in_a_circle() -> None:
    rooms: dict[str, set[str]] = {}
    for name, found in GRAPH.items():
        if "." in name:  # a package's own front door looks into all of its rooms
            rooms.setdefault(room(name), set()).update(room(i) for i in found if "." in i and room(i) != room(name))
    assert " -> ".join(circle(rooms)) == ""


def test_one_file_opens_zeromq_sockets() -> None:
    found = {name for name, path in MODULES.items() if any(i.split(".")[0] == "zmq" for i in imports(path))}
    # of these, keys makes and checks keys, and admission works on sockets that it is given
    assert found == {f"actors.transport.{name}" for name in ("sockets", "keys", "admission")}
    opening = {
        name
        for name in found
        for node in ast.walk(ast.parse(MODULES[name].read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("Context", "instance", "context.socket"))
    }
    assert opening == {"actors.transport.sockets"}, "sockets, with their deadlines and limits, are opened in one place"


def test_nothing_of_ours_is_pickled() -> None:
    """Neither by us nor by a collective that takes objects: what would be unpickled may come from anybody."""
    found = set()
    for name, path in MODULES.items():
        if {"pickle", "cloudpickle", "dill", "marshal", "shelve"} & {i.split(".")[0] for i in imports(path)}:
            found.add(f"{name} imports it")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr.endswith(("_object", "_object_list", "_obj")):
                found.add(f"{name} calls {node.attr}")
    assert found == set()


def test_no_module_is_longer_than_400_lines() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for folder in (*PACKAGES, "benchmarks", "docs")
        for path in files(folder, "*.py")
        if (lines := path.read_text().count("\n")) > 400
    }
    assert long == {}


def test_tests_that_want_the_machine_for_themselves_are_where_they_are_looked_for() -> None:
    mark = "pytest.mark." + "e2e"
    found = {path.parent.name for path in files("tests", "*.py") if mark in path.read_text()}
    assert found == {"e2e"}, "`make test` runs those of tests/e2e alone"


def test_a_class_name_means_one_thing() -> None:
    places: dict[str, list[str]] = {}
    for name, path in MODULES.items():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(name)
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_the_check_for_circles_sees_one() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) != []
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
