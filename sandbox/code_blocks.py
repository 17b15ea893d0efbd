"""Finds the program in a model's response: its last fenced block that can be one."""

from __future__ import annotations

import ast
import re
import warnings
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

# `python`, `Python3`, `py`, `{python}`, `{.python .numberLines}`, `python title="a.py"`, `solution.py`.
_PYTHON = re.compile(r"\{?\.?(?:i?python|pypy|py)[\d.]*(?![\w-])|[\w./-]+\.py(?!\w)", re.IGNORECASE)
_MAX_PARSED = 200_000
_MAX_BLOCKS = 64
_ACTS = (
    ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom, ast.For, ast.While, ast.If,
    ast.With, ast.Try,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block.

    Attributes:
        tag: what stands behind the opening fence.
        text: the lines between the fences.
        closed: the closing fence is there.
    """

    tag: str
    text: str
    closed: bool

    @property
    def python(self) -> bool:
        """Whether its tag says Python."""
        return _PYTHON.match(self.tag) is not None


def last_program(response: str, entry: str = "") -> str | None:
    """The program of a response, or None if it has none.

    It is the last block that can be one: its tag says Python, or says nothing and it does what programs do rather than
    what they print. Of several, one that defines `entry` comes before an example of its use. A response that was cut
    off within its last program has none: what stands before it was a draft.
    """
    found = list(deque(all_blocks(response), _MAX_BLOCKS))
    if found and not found[-1].closed:
        cut = found.pop()
        if cut.python or (not cut.tag and not any(block.python for block in found)):
            return None
    programs = [block.text for block in found if block.python or (not block.tag and _acts(block.text))]
    programs = programs or [block.text for block in found if not block.tag]
    # Parsed only where there is a choice.
    defining = [text for text in programs if entry and len(programs) > 1 and _defines(text, entry)]
    return next(reversed(defining or programs), None)


def fenced_blocks(text: str) -> Iterator[str]:
    """The contents of the closed fenced blocks of a text."""
    return (block.text for block in all_blocks(text) if block.closed)


def all_blocks(text: str) -> Iterator[Block]:
    """The fenced blocks of a text; the last may be without its end.

    Fences are CommonMark's: the closing one may be longer, and what indents the opening one (in a list, say) is taken
    off the lines between.
    """
    fence, tag, margin, block = "", "", 0, list[str]()
    for line in text.splitlines(keepends=True):
        stripped = line.strip()
        if fence:
            if stripped.startswith(fence) and not stripped.strip(fence[0]):
                yield Block(tag, "".join(block), closed=True)
                fence = ""
            else:
                block.append(_outdented(line, margin))
            continue
        if (opening := _opening(stripped)) is not None:
            fence, margin, block = opening, len(line) - len(line.lstrip()), []
            tag = stripped[len(fence) :].strip()
    if fence:
        yield Block(tag, "".join(block), closed=False)


def _opening(line: str) -> str | None:
    """The fence that a line opens a block with. No regular expression: `~~~…` is matched in too many ways."""
    rest = line.lstrip(line[:1]) if line[:1] in ("`", "~") else line
    run = len(line) - len(rest)
    return line[:run] if run >= 3 and "`" not in rest else None


def _outdented(line: str, margin: int) -> str:
    return line[min(margin, len(line) - len(line.lstrip(" \t"))) :] if margin else line


def _acts(text: str) -> bool:
    """Whether a text is Python that does something: output such as `49`, `x = 5` or `[1, 2]` is Python by chance."""
    tree = _tree(text)
    return tree is not None and any(isinstance(node, _ACTS) or _prints(node) for node in ast.walk(tree))


def _prints(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Name(id="print")) | ast.Attribute(attr="stdout"):
            return True
    return False


def _defines(text: str, entry: str) -> bool:
    """Whether a text defines a name, or a class with such a method."""
    owner, _, method = entry.rpartition(".")
    tree = _tree(text)
    for node in tree.body if tree is not None else ():
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) if name == entry:
                return True
            case ast.ClassDef(name=name, body=body):
                methods = {part.name for part in body if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)}
                if name == entry or (method in methods and owner in ("", name)):
                    return True
            case ast.Assign() | ast.AnnAssign() | ast.Import() | ast.ImportFrom():
                names = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
                names |= {part.asname or part.name for part in ast.walk(node) if isinstance(part, ast.alias)}
                if entry in names:
                    return True
    return False


def _tree(text: str) -> ast.Module | None:
    if len(text) > _MAX_PARSED:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
