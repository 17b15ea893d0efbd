"""Attacks that reach back into the tests: by callbacks, by what is passed, by what never ends.

What the tests pass is a handle, and a program may ask of it what its interface offers.
"""

from __future__ import annotations

from cases import fool

_PLAIN = "def check(candidate):\n    assert candidate([1]) == @NUMBER@\n"
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
