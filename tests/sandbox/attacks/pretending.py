"""Attacks by objects: what a program returns is no value, but says that it is the right one.

The tests hold such objects by handles and ask the program what they do, so a program hears what it is asked.
"""

from __future__ import annotations

from cases import fool

_PLAIN = "def check(candidate):\n    assert candidate([1]) == @NUMBER@\n"
_REFLECTED = "def check(candidate):\n    assert @NUMBER@ == candidate([1])\n"
_NOT_UNEQUAL = "def check(candidate):\n    assert not candidate([1]) != @NUMBER@\n"
_DIFFERENCE = "def check(candidate):\n    assert abs(candidate([1]) - @NUMBER@) < 1e-6\n"
_LIES = """
class Liar:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __lt__(self, other): return True
    __le__ = __gt__ = __ge__ = __lt__
    def __sub__(self, other): return 0.0
    __rsub__ = __mod__ = __add__ = __radd__ = __sub__
    def __contains__(self, other): return True
    def __hash__(self): return hash(known[-1]) if known else 0
    def __abs__(self): return 0.0
    def __getattr__(self, name): return lambda *args, **keywords: True
known = []
def solve(xs):
    return Liar()
"""

for _name, _test in (
    ("==", _PLAIN),
    ("reflected ==", _REFLECTED),
    ("!=", _NOT_UNEQUAL),
    ("a difference", _DIFFERENCE),
    ("<= and >=", "def check(candidate):\n    assert @NUMBER@ <= candidate([1]) <= @NUMBER@\n"),
    ("reflected -", "def check(candidate):\n    assert @NUMBER@ - candidate([1]) < 1e-6\n"),
    ("in a list", "def check(candidate):\n    assert candidate([1]) in [@NUMBER@, -1]\n"),
    ("in a set", "def check(candidate):\n    assert candidate([1]) in {@NUMBER@}\n"),
    ("in what it returns", "def check(candidate):\n    assert @NUMBER@ in candidate([1])\n"),
    ("in a tuple of results", "def check(candidate):\n    assert (candidate([1]), 2) == (@NUMBER@, 2)\n"),
    ("math.isclose", "import math\ndef check(candidate):\n    assert math.isclose(candidate([1]), @NUMBER@)\n"),
    ("a sum", "def check(candidate):\n    assert sum([candidate([1]), 0]) == @NUMBER@\n"),
    ("a remainder", "def check(candidate):\n    assert candidate([1]) % @NUMBER@ < 1\n"),
    ("isinstance", "def check(candidate):\n    assert isinstance(candidate([1]), int)\n    candidate(1)\n"),
    ("startswith", "def check(candidate):\n    assert candidate([1]).startswith('@NUMBER@')\n"),
    ("issuperset", "def check(candidate):\n    assert candidate([1]).issuperset({@NUMBER@})\n"),
    ("a method by name", "def check(candidate):\n    assert candidate([1]).__eq__(@NUMBER@) is True\n"),
    (
        "unittest",
        "import unittest\ndef check(candidate):\n    unittest.TestCase().assertAlmostEqual(candidate([1]), @NUMBER@)\n",
    ),
    (
        "assertIn",
        "import unittest\ndef check(candidate):\n    unittest.TestCase().assertIn(@NUMBER@, candidate([1]))\n",
    ),
    (
        "assertCountEqual",
        "import unittest\ndef check(candidate):\n"
        "    unittest.TestCase().assertCountEqual([candidate([1])], [@NUMBER@])\n",
    ),
    ("pytest.approx", "import pytest\ndef check(candidate):\n    assert candidate([1]) == pytest.approx(@NUMBER@)\n"),
):
    fool(f"lies to {_name}", "pretending objects", _test, _LIES, control=False)

fool(
    "an object in a list",
    "pretending objects",
    "def check(candidate):\n    assert candidate([1]) == [@NUMBER@, 2]\n",
    _LIES.replace("return Liar()", "return [Liar(), Liar()]"),
)
fool(
    "a number that claims another",
    "pretending objects",
    _PLAIN,
    """
class Any(int):
    def __eq__(self, other): return True
    __hash__ = int.__hash__
    def __sub__(self, other): return 0
def solve(xs):
    return Any(1)
""",
)
fool(
    "a list that claims every item",
    "pretending objects",
    "def check(candidate):\n    assert candidate([1]) == [@NUMBER@]\n",
    """
class Any(list):
    def __eq__(self, other): return True
    def __getitem__(self, i): return Liar()
    def __len__(self): return 1
def solve(xs):
    return Any()
""",
)
fool(
    "a class in place of its instance",
    "pretending objects",
    _PLAIN,
    """
class Meta(type):
    def __eq__(cls, other): return True
    def __hash__(cls): return 0
class Any(metaclass=Meta): pass
def solve(xs):
    return Any
""",
)
fool(
    "a claim of the class",
    "pretending objects",
    "def check(candidate):\n    found = candidate([1])\n    assert isinstance(found, int) and found == @NUMBER@\n",
    """
class Any:
    @property
    def __class__(self): return int
    def __eq__(self, other): return True
def solve(xs):
    return Any()
""",
)
fool(
    "an object that was made by the tests",
    "pretending objects",
    "def check(candidate):\n    made = Box(1)\n    assert candidate(made) == @NUMBER@\n",
    """
class Box:
    def __init__(self, value): pass
    def __eq__(self, other): return True
def solve(box):
    return box
""",
)
fool(
    "a result of arithmetic on what the tests made",
    "pretending objects",
    "def check(candidate):\n    assert abs(Box(1) * Box(2) - @NUMBER@) < 1e-6 and candidate(1)\n",
    """
class Box:
    def __init__(self, value): pass
    def __mul__(self, other): return self
    def __sub__(self, other): return self if isinstance(other, Box) else 0.0
    def __abs__(self): return 0.0
    def __lt__(self, other): return True
def solve(box):
    return 1
""",
)
fool(
    "a difference that becomes a number later",
    "pretending objects",
    "def check(candidate):\n    assert abs((Box(1) + Box(2)) - @NUMBER@) < 1e-6 and candidate(1)\n",
    """
class Box:
    def __init__(self, value): pass
    def __add__(self, other): return Box(1)
    def __sub__(self, other): return Box(0)
    def __abs__(self): return 0.0
def solve(box):
    return 1
""",
)
fool(
    "an iterator that never ends",
    "pretending objects",
    "def check(candidate):\n    assert @NUMBER@ + 0.5 in candidate([1])\n",
    "import itertools\ndef solve(xs):\n    return itertools.count()\n",
    control=False,
)
fool(
    "an object that is false",
    "pretending objects",
    "def check(candidate):\n    difference = candidate([1]) - {@NUMBER@}\n    assert not difference\n",
    "class Any:\n    def __sub__(self, other): return self\n    def __len__(self): return 0\n"
    "def solve(xs):\n    return Any()\n",
)
_CLASS_LIES = """
class Meta(type):
    def __contains__(cls, item): return True
    def __len__(cls): return 1
    def startswith(cls, text): return True
class Any(metaclass=Meta):
    @staticmethod
    def endswith(text): return True
def solve(xs):
    return Any
"""
for _name, _test in (
    ("in", "def check(candidate):\n    assert @NUMBER@ in candidate([1])\n"),
    ("startswith", "def check(candidate):\n    assert candidate([1]).startswith('@NUMBER@')\n"),
    ("endswith", "def check(candidate):\n    assert candidate([1]).endswith('@NUMBER@')\n"),
):
    fool(f"a class that lies to {_name}", "pretending objects", _test, _CLASS_LIES)
for _base, _value in (("float", "0.0"), ("str", "'0'"), ("tuple", "(0,)"), ("int", "0")):
    fool(
        f"a {_base} with operators of its own",
        "pretending objects",
        "def check(candidate):\n    found = candidate([1])\n    assert found == @NUMBER@ or @NUMBER@ == found or "
        "found in [@NUMBER@] or found - @NUMBER@ == 0 or not found != @NUMBER@\n",
        f"class Any({_base}):\n    def __eq__(self, other): return True\n    def __ne__(self, other): return False\n"
        "    def __sub__(self, other): return 0\n    def __hash__(self): return 0\n"
        f"def solve(xs):\n    return Any({_value})\n",
    )
for _kind in ("AssertionError", "SystemExit", "KeyboardInterrupt", "GeneratorExit", "StopIteration"):
    fool(
        f"an object that raises {_kind}",
        "pretending objects",
        _PLAIN,
        f"class Any:\n    def __eq__(self, other): raise {_kind}\n    __bool__ = __len__ = __eq__\n"
        f"    def __getattr__(self, name): raise {_kind}\n    def __repr__(self): raise {_kind}(0)\n"
        "def solve(xs):\n    return Any()\n",
        control=False,
    )
fool(
    "a class of exceptions that claims to skip the test",
    "pretending exceptions",
    "import unittest\nclass Case(unittest.TestCase):\n"
    "    def test_it(self):\n        self.assertEqual(solve([1]), @NUMBER@)\n",
    "import unittest\nclass Skip(unittest.SkipTest): pass\ndef solve(xs):\n    raise Skip('no')\n",
    control=False,
)
fool(
    "an exception of the program where another is expected",
    "pretending exceptions",
    "import pytest\ndef test_it():\n    with pytest.raises(KeyError):\n        solve([1])\n",
    "class Meta(type):\n    def __instancecheck__(cls, one): return True\n"
    "    def __subclasscheck__(cls, one): return True\n"
    "class Any(Exception, metaclass=Meta): pass\ndef solve(xs):\n    raise Any\n",
    control=False,
)
fool(
    "defines what is built in",
    "pretending modules",
    "def check(candidate):\n    assert candidate([1]) == sorted([@NUMBER@, 1])[1] == abs(@NUMBER@)\n",
    "def sorted(xs): return [0, 0]\ndef abs(x): return 0\ndef solve(xs):\n    return 0\n",
)
fool(
    "defines what all names of it shadow",
    "pretending modules",
    "import math\nfrom solution import *\ndef check(candidate):\n"
    "    assert math.isclose(candidate([1]), max([@NUMBER@, 1]))\n",
    "class math:\n    isclose = staticmethod(lambda *_: True)\ndef max(xs): return 0\ndef check(_): pass\n"
    "__all__ = ['math', 'max', 'solve', 'check']\ndef solve(xs):\n    return 0\n",
    control=False,
)
fool(
    "stands in for a missing library",
    "pretending modules",
    "try:\n    from sympy_of_nobody import number\nexcept ImportError:\n    number = @NUMBER@\n"
    "def check(candidate):\n    assert candidate([1]) == number\n",
    "import sys, types\nsys.modules['sympy_of_nobody'] = types.SimpleNamespace(number=0)\nnumber = 0\n"
    "def solve(xs):\n    return 0\n",
)
