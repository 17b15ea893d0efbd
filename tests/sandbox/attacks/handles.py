"""Attacks on the RPC between tests and program: forged handles, calls that are none, names nobody asked for."""

from __future__ import annotations

from cases import fool, reply

for _name, _reply in (
    ("a handle of no object", '{"value": json.dumps(["t", ["O", -1, 0], ["l"]])}'),
    ("a handle of no class", '{"value": json.dumps(["t", ["O", 1, 99999], ["l"]])}'),
    ("an object of the tests that was never sent", '{"value": json.dumps(["t", ["R", 0], ["l"]])}'),
    ("the builtin exec", '{"value": json.dumps(["t", ["B", "exec"], ["l"]])}'),
    ("a call that is none", '{"call": json.dumps(["t", "call"])}'),
    ("a call of what was never sent", '{"call": json.dumps(["t", "call", "", ["R", 0], ["t"], ["d"]])}'),
    ("a verdict", '{"passed": True, "calls": 9}'),
    ("names nobody asked for", '{"value": json.dumps(["t", ["d", "sorted", 1, "check", 2], ["l"]])}'),
    (
        "a class that is AssertionError and int",
        '{"value": json.dumps(["t", ["O", 1, 7], ["l"]]), "classes": json.dumps(["l", ["t", 7, "A", ["l", "int", '
        '"AssertionError"], ["l", "__eq__"], ["l"], "int", None, None]])}',
    ),
    (
        "a class with methods of a handle",
        '{"value": json.dumps(["t", ["O", 1, 7], ["l"]]), "classes": json.dumps(["l", ["t", 7, "A", ["l"], '
        '["l", "__class__", "__getattribute__", "__init_subclass__"], ["l", "__eq__", "__setattr__"], "", None, None]])}',
    ),
):
    reply(
        _name,
        "forged handles",
        "def check(candidate):\n    candidate([1])\n    assert candidate([1]) == @NUMBER@\n",
        _reply,
    )
fool(
    "brings names that the tests did not ask for",
    "forged handles",
    "def check(candidate):\n    assert isclose(candidate([1]), @NUMBER@)\n"
    "def isclose(a, b):\n    return abs(a - b) < 1e-6\n",
    """
import gc
def abs(x): return 0.0
def isclose(a, b): return True
def solve(xs): return 0
for one in gc.get_objects():
    if type(one).__name__ == "_ProgramOperations":
        usual = one.names
        type(one).names = lambda self, wanted: usual(wanted) | {"abs": abs, "isclose": isclose, "check": isclose}
""",
)
