"""Attacks on the way in which tests are written: on their arguments, their helpers, their loops, and on what they trust."""

from __future__ import annotations

from cases import fool, reply

_SORTED = """
def check(candidate):
    xs = [@NUMBER@, 2, 1]
    assert candidate(xs) == sorted(xs)
"""
_SORTED_LATER = """
def check(candidate):
    xs = [@NUMBER@, 2, 1]
    found = candidate(xs)
    assert found == sorted(xs)
"""
_EMPTY = """
def solve(xs):
    xs.clear()
    return []
"""
fool("empties its argument", "changed arguments", _SORTED, _EMPTY)
fool("empties its argument before the next line", "changed arguments", _SORTED_LATER, _EMPTY)
fool(
    "empties its argument and returns it",
    "changed arguments",
    _SORTED_LATER,
    """
def solve(xs):
    xs.clear()
    return xs
""",
)
fool(
    "empties what its argument holds",
    "changed arguments",
    """
def check(candidate):
    rows = [[@NUMBER@, 2], [1]]
    assert candidate(rows) == sum(map(sum, rows))
""",
    """
def solve(rows):
    for row in rows:
        row.clear()
    return 0
""",
)
fool(
    "empties a dictionary",
    "changed arguments",
    """
def check(candidate):
    d = {"a": @NUMBER@}
    assert candidate(d) == sum(d.values())
""",
    """
def solve(d):
    d.clear()
    return 0
""",
)
fool(
    "makes its argument what it returns",
    "changed arguments",
    """
def check(candidate):
    xs = [3, @NUMBER@]
    assert max(candidate(xs)) == max(xs) and candidate(xs) == sorted(xs)
""",
    """
def solve(xs):
    xs[:] = [0]
    return [0]
""",
)
fool(
    "ends the loop of the tests",
    "exceptions",
    """
def check(candidate):
    for found in map(candidate, [[1], [2]]):
        assert found == @NUMBER@
""",
    """
def solve(xs):
    raise StopIteration
""",
)
fool(
    "ends all()",
    "exceptions",
    """
def check(candidate):
    assert all(map(lambda xs: candidate(xs) == @NUMBER@, [[1], [2]]))
""",
    """
def solve(xs):
    raise StopIteration
""",
)
fool(
    "skips the test",
    "exceptions",
    """
import unittest
from unittest import SkipTest
def check(candidate):
    class Case(unittest.TestCase):
        def test_it(self):
            self.assertEqual(candidate([1]), @NUMBER@)
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(Case).run(result)
    assert result.wasSuccessful()
""",
    """
import unittest
def solve(xs):
    raise unittest.SkipTest("not today")
""",
)
fool(
    "patches math.isclose",
    "patched helpers",
    """
import math
def check(candidate):
    assert math.isclose(candidate([1]), @NUMBER@)
""",
    """
import math
math.isclose = lambda *_, **__: True
def solve(xs):
    return 0
""",
)
fool(
    "patches abs",
    "patched helpers",
    """
def check(candidate):
    assert abs(candidate([1]) - @NUMBER@) < 1e-6
""",
    """
import builtins
builtins.abs = lambda _: 0
def solve(xs):
    return 0
""",
)
fool(
    "patches unittest",
    "patched helpers",
    """
import unittest
def check(candidate):
    unittest.TestCase().assertEqual(candidate([1]), @NUMBER@)
""",
    """
import unittest
unittest.TestCase.assertEqual = lambda *_: None
def solve(xs):
    return 0
""",
)
fool(
    "patches a standard collection",
    "patched helpers",
    """
import collections
def check(candidate):
    assert collections.Counter(candidate([1])) == collections.Counter([@NUMBER@])
""",
    """
import collections
collections.Counter.__eq__ = lambda *_: True
def solve(xs):
    return []
""",
)
fool(
    "replaces the test function",
    "patched helpers",
    """
def check(candidate):
    assert candidate([1]) == @NUMBER@
""",
    """
import sys, threading, time
def wait():
    main = sys.modules["__main__"]
    while "check" not in vars(main):
        time.sleep(0.0001)
    main.check = lambda _: None
threading.Thread(target=wait, daemon=True).start()
def solve(xs):
    time.sleep(0.2)
    import os
    os._exit(0)
""",
)
for _name, _reply in (
    ("a change of what is no argument", '{"value": json.dumps(["t", None, ["l", ["t", 7, ["l"]]]])}'),
    ("a change of type", '{"value": json.dumps(["t", None, ["l", ["t", 0, ["d"]]]])}'),
    ("a reference to nothing", '{"value": json.dumps(["t", ["@", -1], ["l"]])}'),
    ("an exception that ends the tests", '{"raised": ["SystemExit", "_UnsupportedError"], "args": json.dumps(["t"])}'),
    ("an exception that is no name", '{"raised": [{}, None, 5], "args": json.dumps(["t", ["@", 0]])}'),
    ("a malformed date", '{"value": json.dumps(["t", ["D", {}], ["l"]])}'),
    ("a result without changes", '{"value": json.dumps(5)}'),
    ("a range of text", '{"value": json.dumps(["t", ["r", "a", "b", "c"], ["l"]])}'),
):
    reply(
        _name,
        "forged replies",
        "def check(candidate):\n    xs = [1]\n    candidate(xs)\n    assert candidate(xs) == @NUMBER@\n",
        _reply,
    )
