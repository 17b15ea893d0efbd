"""The code in a task's prompt: helper functions that tests and responses rely on. Prompts are trusted."""

from __future__ import annotations

import ast
import functools

from sandbox.code_blocks import fenced_blocks

_KEPT = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
_BODY = "\n    pass\n"


def before_program(prompt: str, program: str) -> list[str]:
    """What to run, the first that compiles: `program` after the prompt, after the code in it, or alone."""
    code = code_of(prompt)
    joined = [f"{part.rstrip(chr(10))}\n{program}" for part in (prompt, code) if part.strip() and not _is_prose(part)]
    return [*dict.fromkeys(joined), program]


def before_tests(prompt: str) -> list[str]:
    """What to run before tests, the first that compiles."""
    whole = [] if _is_prose(prompt) else [prompt, prompt.rstrip() + _BODY]
    return [*whole, code_of(prompt), ""]


@functools.lru_cache(maxsize=256)
def code_of(prompt: str) -> str:
    """The imports and definitions in the fenced blocks of a prompt; what else they hold may be examples."""
    kept: list[str] = []
    for block in fenced_blocks(prompt):
        tree = _tree(block) or _tree(block.rstrip() + _BODY)
        if tree is not None:
            kept += [ast.unparse(part) for part in tree.body if isinstance(part, _KEPT)]
    return "\n".join(kept)


def _is_prose(prompt: str) -> bool:
    """Whether a prompt compiles by chance: `Identity` is a word, and an expression."""
    tree = _tree(prompt)
    return tree is not None and all(isinstance(part, ast.Expr) for part in tree.body)


def _tree(source: str) -> ast.Module | None:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
