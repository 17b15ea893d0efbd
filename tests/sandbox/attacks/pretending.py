"""Attacks by objects: what a program returns is no value, but says that it is the right one.

The tests hold such objects by handles and ask the program what they do, so a program hears what it is asked.
"""

from __future__ import annotations

from cases import fool, reply

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
_CALLBACK = """
def check(candidate):
    seen = []
    class Secret:
        _expected = @NUMBER@
        def look(self):
            return 1
    secret = Secret()
    assert candidate({passed}) == @NUMBER@ and seen is not None
"""
for _name, _passed, _source in (
    ("globals of a function", "secret.look", "return f.__globals__['expected']"),
    ("the closure of a function", "lambda: secret", "return f.__closure__[0].cell_contents._expected"),
    ("code of a function", "lambda: @NUMBER@", "return f.__code__.co_consts[-1]"),
    ("self of a method", "secret.look", "return f.__self__._expected"),
    ("the class of an object", "secret", "return type(f).__mro__[0]._expected"),
    ("hidden attributes by getattr", "secret", "return getattr(f, '_expected')"),
    ("defaults of a function", "lambda x=1, *, y=@NUMBER@: 1", "return f.__kwdefaults__['y']"),
    ("what a callback can see", "seen.append", "return f.__self__.__class__.__subclasses__"),
):
    fool(
        f"reads {_name}",
        "reaching back",
        _CALLBACK.replace("{passed}", _passed),
        f"def solve(f):\n    {_source}\n",
        control=False,
    )
fool(
    "patches an object of the tests",
    "reaching back",
    "class Box:\n    def total(self):\n        return @NUMBER@\ndef check(candidate):\n    box = Box()\n"
    "    found = candidate(box)\n    assert found == box.total()\n",
    "def solve(box):\n    box.total = lambda: 0\n    type(box).total = lambda self: 0\n    return 0\n",
)
fool(
    "patches a method of its argument",
    "reaching back",
    "class Box:\n    def holds(self, x):\n        return self.value == x\ndef check(candidate):\n    box = Box()\n"
    "    box.value = 0\n    candidate(box)\n    assert box.holds(@NUMBER@)\n",
    "def solve(box):\n    box.holds = lambda x: True\n",
)
fool(
    "brings a method of its own with an object",
    "reaching back",
    "class Box:\n    def __init__(self, value):\n        self.value = value\n    def holds(self, x):\n"
    "        return self.value == x\ndef check(candidate):\n    assert candidate([1]).holds(@NUMBER@)\n",
    "class Box:\n    pass\ndef solve(xs):\n    box = Box()\n    box.value, box.holds = 0, lambda x: True\n"
    "    return box\n",
    control=False,
)
fool(
    "a class of the tests with a comparison of its own",
    "reaching back",
    "class Box:\n    def __init__(self, value):\n        self.value = value\n    def __eq__(self, other):\n"
    "        return self.value == other.value\ndef check(candidate):\n    assert candidate([1]) == Box(@NUMBER@)\n",
    "class Box:\n    value = 0\n    def __eq__(self, other):\n        return True\ndef solve(xs):\n    return Box()\n",
    control=False,
)
for _name, _block in (
    ("what it returned", "assert thing.value() == @NUMBER@"),
    ("what it lacks", "assert thing.missing[@NUMBER@] == 1"),
    ("what it raised", "assert thing.fails() == @NUMBER@"),
):
    fool(
        f"a context manager that suppresses {_name}",
        "reaching back",
        f"def check(candidate):\n    with candidate([1]) as thing:\n        {_block}\n",
        "class Any:\n    missing = {}\n    def __enter__(self): return self\n    def __exit__(self, *_): return True\n"
        "    def value(self): return 0\n    def fails(self): raise KeyError\ndef solve(xs):\n    return Any()\n",
    )
fool(
    "changes an attribute of its argument",
    "reaching back",
    "class Box:\n    value = 0\ndef check(candidate):\n    box = Box()\n    box.value = @NUMBER@\n"
    "    assert candidate(box) == box.value\n",
    "def solve(box):\n    box.value = 0\n    return 0\n",
)
fool(
    "swallows an assertion of a callback",
    "reaching back",
    "def check(candidate):\n    def callback(x):\n        assert x == @NUMBER@\n    candidate(callback)\n",
    "def solve(callback):\n    try:\n        callback(0)\n    except BaseException:\n        pass\n",
)
fool(
    "calls back for ever",
    "reaching back",
    "def check(candidate):\n    def callback(x):\n        return candidate(callback)\n"
    "    assert candidate(callback) == @NUMBER@\n",
    "def solve(callback):\n    try:\n        return callback(0)\n    except BaseException:\n        return solve(callback)\n",
    control=False,
)
fool(
    "returns what is too deep to be passed on",
    "reaching back",
    "def check(candidate):\n    assert candidate(candidate([1])) == @NUMBER@\n",
    "def solve(xs):\n    made = []\n    for _ in range(96):\n        made = [made]\n    return made\n",
    control=False,
)
fool(
    "asks for input before anybody listens",
    "reaching back",
    _PLAIN,
    "try:\n    input()\nexcept EOFError:\n    pass\ndef solve(xs):\n    return input()\n",
    control=False,
)
fool(
    "floods with objects",
    "reaching back",
    _PLAIN,
    "class Any: pass\ndef solve(xs):\n    return [Any() for _ in range(10 ** 6)]\n",
    control=False,
)
fool(
    "floods with classes",
    "reaching back",
    _PLAIN,
    "def solve(xs):\n    return [type('Any', (), {})() for _ in range(10 ** 5)]\n",
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
