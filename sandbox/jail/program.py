"""What every job does with sources: compile the first that compiles, find the function under test, report."""

from __future__ import annotations

import builtins
import json
import os
import re
import sys
import types
from typing import Any

JOB_FD, RESULT_FD = 3, 4

# LeetCode's solutions rely on these names without importing them. Modules come last, over functions of their names.
_STARRED = (
    "string", "re", "datetime", "collections", "heapq", "bisect", "copy", "math", "random", "statistics", "itertools",
    "functools", "operator", "io", "sys", "json", "typing", "builtins",
)  # fmt: skip
_NODES = """
class ListNode:
    def __init__(self, val=0, next=None):
        self.val = val
        self.next = next

class TreeNode:
    def __init__(self, val=0, left=None, right=None):
        self.val = val
        self.left = left
        self.right = right
"""
_PRELUDE = "".join(f"from {name} import *\n" for name in _STARRED) + f"import {', '.join(_STARRED)}\n{_NODES}"
_SOLUTION = "class Solution"
_WORD = re.compile(r"[^\W\d]\w*")
_prelude: dict[str, Any] = {"__name__": "program"}
#: What the program of this process was given.
given_names: set[str] = set()
# Made before any fork: a child that made its own would copy pages for it.
_ENCODER = json.JSONEncoder(default=str)


def prepare() -> None:
    """Import what solutions in LeetCode's form rely on; once, before any fork."""
    exec(compile(_PRELUDE, "prelude.py", "exec", dont_inherit=True), _prelude)
    # The streams are those of another time, and what is built in needs no giving.
    for name in {"__builtins__", "__name__", "stdin", "stdout", "stderr", *vars(builtins)} & _prelude.keys():
        del _prelude[name]


def compiled(sources: list[str], name: str) -> tuple[types.CodeType, str]:
    """The first source that compiles, and its text; the syntax error of the last if none does."""
    for source in sources[:-1]:
        try:
            return compile(source, name, "exec", dont_inherit=True), source
        except SyntaxError:
            continue
    return compile(sources[-1], name, "exec", dont_inherit=True), sources[-1]


def entry(job: dict[str, Any], namespace: dict[str, Any]) -> Any:
    """The function under test: a name, or LeetCode's `Solution().name`."""
    namespace["__name__"] = "program"
    sys.modules["program"] = sys.modules["__main__"]
    code, source = compiled(job["sources"], "program.py")
    # Only what is mentioned: every name given is a page that this child copies.
    given = {name: _prelude[name] for name in _WORD.findall(source) if name in _prelude} if _SOLUTION in source else {}
    namespace.update(given)
    given_names.update(given)
    exec(code, namespace)
    wanted = job["entry"]
    if "." in wanted:
        owner, _, name = wanted.partition(".")
        return getattr(namespace[owner](), name)
    defined = wanted in namespace and namespace[wanted] is not given.get(wanted, job)
    if not defined and isinstance(namespace.get("Solution"), type):
        return getattr(namespace["Solution"](), wanted)
    return namespace[wanted]


def report(message: dict[str, Any]) -> None:
    """One line to the pool."""
    line = _ENCODER.encode(message).encode("utf-8", "replace") + b"\n"
    view = memoryview(line)
    while view:
        view = view[os.write(RESULT_FD, view) :]
