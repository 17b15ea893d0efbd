"""Whatever a file of tests contains is run: asserts, functions, classes, `check`."""

from __future__ import annotations

import pytest

from sandbox import Status
from tests.unit.sandbox.jail.conftest import RIGHT, WRONG, Judge

# Each holds only if the square of three is nine.
FORMS = {
    "assert+func": """
assert f(2)==4
def test_a(): assert f(3)==9
""",
    "async": "async def test_a(): assert f(3)==9",
    "async+sync": """
async def test_a():
    assert f(3)==9
def test_b(): assert f(2)==4
""",
    "check+func": """
def check(candidate): assert candidate(2)==4
def test_a(): assert f(3)==9
""",
    "check+assert": """
assert f(3)==9
def check(candidate): assert candidate(2)==4
""",
    "assert+check": """
def check(candidate): assert candidate(3)==9
assert f(2)==4
""",
    "guard": """
def test_a(): assert f(3)==9
if __name__=='__main__': test_a()
""",
    "guard-assert": """
if __name__=='__main__':
    assert f(3)==9
""",
    "guard-swallow": """
def test_a(): assert f(3)==9
if __name__=='__main__':
    try: test_a()
    except AssertionError as e: print('FAILED',e)
""",
    "exit-mid": """
import sys
def test_a(): assert f(3)==9
assert f(2)==4
sys.exit(0)
""",
    "return-false": "def check(candidate): return candidate(3)==9",
    "async-check": "async def check(candidate): assert candidate(3)==9",
    "nested-def": """
def test_a():
    def inner(): assert f(3)==9
    inner()
""",
    "lambda-tests": """
tests=[lambda: f(3)==9]
for t in tests: assert t()
""",
    "loop": """
for x,y in [(2,4),(3,9)]:
    assert f(x)==y, (x,y)
""",
    "class-noprefix": """
class SquareTest:
    def test_a(self): assert f(3)==9
""",
    "class-driver": """
class Tester:
    def __init__(self,g): self.g=g
    def test_all(self): assert self.g(3)==9
Tester(f).test_all()
""",
    "static": """
class TestA:
    @staticmethod
    def test_a(): assert f(3)==9
""",
    "stmt-in-func": """
def main():
    assert f(3)==9
main()
""",
    "import-sol": """
from solution import f
def test_a(): assert f(3)==9
""",
    "import-sol2": """
import solution
assert solution.f(3)==9
""",
    "import-sol3": """
from solution import *
assert f(3)==9
""",
    "import-sol4": """
import solution as s
assert s.f(3)==9
""",
    "import-main": """
from main import f
assert f(3)==9
""",
    "import-entry": """
from f import f
assert f(3)==9
""",
    "import-your": """
from your_module import f
assert f(3)==9
""",
    "nested-class": """
assert f(2)==4
class TestA:
    class TestB:
        def test_a(self): assert f(3)==9
""",
    "helper-test": """
def test_case(x,y): assert f(x)==y
test_case(2,4)
test_case(3,9)
""",
    "helper-in-test": """
def test_case(x,y): assert f(x)==y
def test_all():
    test_case(2,4)
    test_case(3,9)
""",
    "helper-in-check": """
def test_case(g,x,y): assert g(x)==y
def check(candidate):
    test_case(candidate,3,9)
""",
    "check-noarg": """
def check():
    assert f(3)==9
""",
    "check-helper": """
def check(x,y): assert f(x)==y
check(2,4)
check(3,9)
""",
    "cand-param": "def test_f(candidate): assert candidate(3)==9",
    "partial-test": """
from functools import partial
def go(x): assert f(x)==x*x
test_a=partial(go,3)
""",
    "if-def": """
if True:
    def test_a(): assert f(3)==9
""",
    "dyn": """
def mk(x):
    def t(): assert f(x)==x*x
    return t
for i in (2,3): globals()['test_%d'%i]=mk(i)
""",
    "raise": "if f(3)!=9: raise Exception('bad')",
    "exit1": """
import sys
if f(3)!=9: sys.exit(1)
""",
    "print-swallow": """
try:
    assert f(3)==9
    print('ok')
except AssertionError: print('FAILED')
""",
    "anyof": """
ok=False
for w in (8,9):
    try:
        assert f(3)==w
        ok=True
    except AssertionError: pass
assert ok
""",
    "nptest": """
import numpy as np
np.testing.assert_equal(f(3),9)
""",
    "test-named-test": "def test(): assert f(3)==9",
    "test-camel": "def testSquare(): assert f(3)==9",
}


@pytest.mark.parametrize("name", FORMS)
def test_whatever_is_a_test_is_run(judge: Judge, name: str) -> None:
    assert judge(RIGHT, FORMS[name]) is Status.OK
    assert judge(WRONG, FORMS[name]) is Status.WRONG
