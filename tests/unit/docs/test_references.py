"""What documents and messages mention exists: links, files, names in files, commands and options, keys, metrics."""

import ast
import re
import shlex
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_origin

import pytest
import typer
from pydantic import TypeAdapter

from actors import cli
from actors.config import yaml_core
from actors.config.keys import rows
from actors.config.recipe import Recipe
from benchmarks.__main__ import app as benchmarks
from deploy.__main__ import app as deploy
from docs.generate.markdown import anchor
from tests.sources import ROOT, files

DOCUMENTS = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *(path for folder in ("deploy", "grafana") for path in files(folder, "*.md")),
]
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
GAP = "\0"  # where an f-string inserts something
FOLDERS = r"(?:actors|learner|sandbox|benchmarks|deploy|docs|grafana|recipes|requirements|tests)"

every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def spans(document: Path) -> list[str]:
    """What stands in backticks, code blocks aside."""
    return re.findall(r"`([^`\n]+)`", FENCE.sub("", document.read_text()))


def lines_of_code(document: Path) -> Iterator[str]:
    """The lines of code blocks, and what stands in backticks."""
    for block in FENCE.findall(document.read_text()):
        yield from block.splitlines()[1:-1]
    yield from (line.strip() for line in document.read_text().splitlines() if line.startswith("    "))
    yield from spans(document)


# ---------------------------------------------------------------- links and files


@every_document
def test_links_lead_somewhere(document: Path) -> None:
    for target, fragment in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", FENCE.sub("", document.read_text())):
        there = (document.parent / target).resolve() if target else document
        assert there.exists(), target
        if fragment:
            headings = re.findall(r"^#+ (.*)$", FENCE.sub("", there.read_text()), re.MULTILINE)
            assert fragment in map(anchor, headings), f"{target}#{fragment}"


@every_document
def test_files_and_folders_exist(document: Path) -> None:
    mentioned = [span for span in spans(document) if re.fullmatch(rf"{FOLDERS}/[\w./*-]*", span)]
    missing = [path for path in mentioned if not list(ROOT.glob(path.rstrip("/")))]
    assert not missing


def defined(module: Path) -> set[str]:
    """Classes, functions, constants and attributes of a module, dotted where they are in a class."""

    def names(body: list[ast.stmt], prefix: str) -> Iterator[str]:
        for node in body:
            match node:
                case ast.ClassDef():
                    yield prefix + node.name
                    yield from names(node.body, f"{prefix}{node.name}.")
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    yield prefix + node.name
                case ast.Assign():
                    yield from (prefix + t.id for t in node.targets if isinstance(t, ast.Name))
                case ast.AnnAssign(target=ast.Name(id=name)):
                    yield prefix + name

    return set(names(ast.parse(module.read_text()).body, ""))


@every_document
def test_names_beside_a_file_are_defined_in_it(document: Path) -> None:
    """In a row of a table that names one module, `Name` and `Class.method` are of this module."""
    for row in document.read_text().splitlines():
        found = re.findall(r"`([^`]+)`", row) if row.startswith("|") else []
        modules = [span for span in found if re.fullmatch(rf"{FOLDERS}/[\w/]+\.py", span)]
        if len(modules) == 1:
            names = [span for span in found if re.fullmatch(r"_?[A-Z]\w*(\.\w+)?|\w+\(\)", span)]
            missing = {name.removesuffix("()") for name in names} - defined(ROOT / modules[0])
            assert not missing, row


def test_the_six_questions_of_a_newcomer_are_answered() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    answers = text[text.index("### Six questions") : text.index("## From prompt to gradient")]
    for question in ("staleness bound", "dead verifier", "NCCL engine", "alert threshold", "seccomp list", "GRPO"):
        rows_ = [row for row in answers.splitlines() if row.startswith("| the ") and question in row]
        assert rows_ and all(re.search(rf"`{FOLDERS}/[\w/]+\.py` \| `\w", row) for row in rows_), question


# ---------------------------------------------------------------- commands


def commands(document: Path) -> Iterator[list[str]]:
    """Each command line of ours: `leeway …`, `python -m …`, `make …`; what stands before and after it is left out."""
    for line in lines_of_code(document):
        found = re.search(r"(?:^|/)(leeway|python -m|make) ([^#|;…]+)", line.strip())
        if found and not line.startswith("kubectl"):  # whose objects are called leeway
            yield [*found[1].split(), *shlex.split(found[2])]


@every_document
def test_commands_and_their_options_exist(document: Path) -> None:
    for command in commands(document):
        match command:
            case ["leeway", "deploy", *words]:
                require(typer.main.get_command(deploy), words)
            case ["leeway", *words]:
                require(typer.main.get_command(cli.app), words)
            case ["python", "-m", "benchmarks", *words]:
                require(typer.main.get_command(benchmarks), words)
            case ["python", "-m", module, *_]:
                assert find_spec(module), command
            case ["make", target, *_]:
                assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), command


def require(command: Any, words: list[str]) -> None:
    """Every word is a subcommand while there are any, and every option is one of the command it stands behind."""
    for word in words:
        options = {option for parameter in command.params for option in parameter.opts}
        if word.startswith("-"):
            assert word in options, f"{command.name}: {word}"
        elif hasattr(command, "commands") and not word.isupper():
            assert word in command.commands, f"{command.name}: {word}"
            command = command.commands[word]


# ---------------------------------------------------------------- keys and metrics


def known_keys() -> set[str]:
    """Every dotted key of a recipe and every section, with the tags of variants and without."""
    keys = [key for key, _ in rows(Recipe)]
    tagged = {key.rpartition(".")[0] for key in keys} | set(keys)
    return tagged | {re.sub(r"\[\w+\]", "", key) for key in tagged}


def unknown(keys: set[str]) -> set[str]:
    """Those that no recipe has; what stands under a key whose values are by name (engine_args, …) is the engine's."""
    by_name = tuple(f"{key}." for key, field in rows(Recipe) if get_origin(field.annotation) is dict)
    return {key for key in keys - known_keys() if not key.startswith(by_name)}


@every_document
def test_keys_exist(document: Path) -> None:
    mentioned = {re.split(r"[:=]", span)[0].strip() for span in spans(document)}
    mentioned |= {key for line in lines_of_code(document) for key in re.findall(r"-s ([a-z_.]+)=", line)}
    dotted = {name for name in mentioned if re.fullmatch(r"[a-z_]+(\[\w+\])?(\.[a-z_0-9]+(\[\w+\])?)+", name)}
    ours = {key for key in dotted if re.split(r"[.\[]", key)[0] in Recipe.model_fields}
    assert not unknown(ours)


def messages(module: Path) -> Iterator[str]:
    """Every text of a module but its docstrings; the parts of an f-string are joined, a gap between them."""
    tree = ast.parse(module.read_text())
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    parts |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else GAP for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield node.value


def keys_in(text: str) -> set[str]:
    """What looks like a key of the recipe: `section.key`, and is no file, module or suffix of something longer."""
    dotted = re.findall(r"(?<![\w./\0])[a-z]\w*(?:\.[a-z]\w*)+(?![\w/\0]|\.\0)", text)
    files = (".json", ".jsonl", ".safetensors", ".log", ".py", ".html", ".yaml")
    ours = {name for name in dotted if name.partition(".")[0] in Recipe.model_fields and not name.endswith(files)}
    return {name for name in ours if not is_module(name)}


def is_module(name: str) -> bool:
    """Whether a dotted name is a module, or is defined in one of ours."""
    package, _, rest = name.partition(".")
    if package == "ray":  # whose name is a section's too
        spec = find_spec(package)
        return (Path(str(spec and spec.origin)).parent / rest.replace(".", "/")).with_suffix(".py").exists()
    path = ROOT / name.replace(".", "/")
    owner = path.parent.with_suffix(".py")
    return path.is_dir() or path.with_suffix(".py").exists() or (owner.exists() and path.name in defined(owner))


MODULES = [path for package in ("actors", "learner", "sandbox") for path in files(package, "*.py")]


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_key_that_a_message_names_exists(module: Path) -> None:
    own: set[str] = set()
    if module.relative_to(ROOT).parts[0] != "actors":  # which knows the whole tree; others their own part of it
        own = {".".join(parts[i:]) for parts in (key.split(".") for key in known_keys()) for i in range(1, len(parts))}
    assert not unknown({key for text in messages(module) for key in keys_in(text)}) - own


def test_a_key_in_a_message_is_told_from_what_looks_like_one() -> None:
    text = "raise replay.silence or `controller.restarts`; see logs/learner.log, learner.trainer and model.safetensors."
    assert keys_in(text) == {"replay.silence", "controller.restarts"}
    named = {key for text in messages(ROOT / "actors/report/health.py") for key in keys_in(text)}
    assert {"learner.optimizer.learning_rate", "generators.count", "rewards.weights.overlong"} <= named


@every_document
def test_examples_of_sections_are_valid(document: Path) -> None:
    for block in re.findall(r"^```yaml\n(.*?)^```", document.read_text(), re.DOTALL | re.MULTILINE):
        for name, value in yaml_core.read(block).items():
            if name in Recipe.model_fields and (annotation := Recipe.model_fields[name].annotation):
                TypeAdapter(annotation).validate_python(value)


@every_document
def test_metrics_exist(document: Path) -> None:
    exported = (ROOT / "grafana" / "METRICS.md").read_text()
    mentioned = {span for span in spans(document) if re.fullmatch(r"leeway_\w*", span)}
    assert not {name for name in mentioned if f"`{name}`" not in exported}


def test_every_health_warning_has_an_entry_in_the_runbook() -> None:
    tree = ast.parse((ROOT / "actors" / "report" / "health.py").read_text())
    symptoms = {
        str(node.args[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "HealthWarning"
        if isinstance(node.args[0], ast.Constant)
    }
    runbook = (ROOT / "docs" / "operations.md").read_text()
    assert symptoms
    assert not {symptom for symptom in symptoms if f"| `{symptom}` | [" not in runbook}


# ---------------------------------------------------------------- the entrance


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 180


def test_every_page_is_linked_from_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    pages = [str(page.relative_to(ROOT)) for page in DOCUMENTS[1:] if page.parent.name != "crds"]
    assert [page for page in pages if f"({page})" not in text] == []
