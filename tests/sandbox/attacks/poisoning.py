"""Attacks on what runs around the program: poisoned modules and encoders, values that bite, fake time."""

from __future__ import annotations

from cases import forge

forge(
    "poisoned modules",
    "poisoned modules",
    """
import sys, types
for n in ('json', 're', 'math', 'unittest', 'pytest', 'operator', 'copy'):
    m = types.ModuleType(n)
    m.__getattr__ = lambda k: (lambda *a, **kw: True)
    sys.modules[n] = m
def solve(x):
    return 0
""",
    control=False,
)
forge(
    "poisoned import hook",
    "poisoned modules",
    """
import os, sys
class Hook:
    def find_spec(self, *a):
        os._exit(0)
sys.meta_path.insert(0, Hook())
sys.modules.pop('json', None)
def solve(x):
    return 0
""",
    control=False,
)
forge(
    "patched json encoder",
    "poisoned modules",
    """
import json
json.dumps = lambda *a, **k: '{"passed": true}'
json.JSONEncoder.encode = json.dumps
def solve(x):
    return 0
""",
    control=False,
)
forge(
    "patched harness",
    "poisoned modules",
    """
import gc, types
for o in gc.get_objects():
    if isinstance(o, types.FunctionType) and 'jail' in o.__code__.co_filename:
        o.__code__ = (lambda *a, **k: None).__code__
def solve(x):
    return 0
""",
    control=False,
)
forge(
    "pickle that would run",
    "poisoned modules",
    """
import os
class P:
    def __reduce__(self):
        return (os._exit, (0,))
def solve(x):
    return P()
""",
    control=False,
)
forge(
    "repr that lies",
    "poisoned modules",
    """
class R:
    def __repr__(self):
        return '@NUMBER@'[:0] + '1' * 10
    __str__ = __repr__
def solve(x):
    return R()
""",
    control=False,
)
forge(
    "aliases its argument",
    "poisoned modules",
    """
def solve(x):
    x.clear()
    x.extend([x] * 3)
    return x
""",
    control=False,
)
forge(
    "self-containing value",
    "huge values",
    """
def solve(x):
    a = []
    a.append(a)
    return a
""",
    control=False,
)
forge(
    "deep value",
    "huge values",
    """
def solve(x):
    a = []
    for _ in range(10**5):
        a = [a]
    return a
""",
    control=False,
)
forge(
    "huge integer",
    "huge values",
    """
def solve(x):
    return 1 << (1 << 26)
""",
    control=False,
)
forge(
    "huge list",
    "huge values",
    """
def solve(x):
    return [0] * (1 << 25)
""",
    control=False,
)
forge(
    "colliding keys",
    "huge values",
    """
def solve(x):
    return {i * (2**61 - 1): i for i in range(3000)}
""",
    control=False,
)
forge(
    "endless generator",
    "huge values",
    """
import itertools
def solve(x):
    return itertools.count()
""",
    control=False,
)
forge(
    "lone surrogates",
    "huge values",
    r"""
def solve(x):
    return '\udcff\ud800' * 1000
""",
    control=False,
)
forge(
    "fake time",
    "fake time",
    """
import time
time.time = time.monotonic = time.perf_counter = lambda: 0
def solve(x):
    return 0
""",
    control=False,
)
