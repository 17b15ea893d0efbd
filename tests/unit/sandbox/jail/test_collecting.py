"""Whatever a file of tests contains is run, as pytest would, and nothing that cannot be run passes."""

from __future__ import annotations

import pytest

from sandbox import Status
from tests.unit.sandbox.jail.conftest import Judge

RIGHT = "def f(x): return x * x"
WRONG = "def f(x): return 4"

# Each holds only if the square of three is nine.
FORMS = {
    "assert+class": """
import unittest
assert f(2)==4
class T(unittest.TestCase):
    def test_a(self): self.assertEqual(f(3),9)
""",
    "assert+func": """
assert f(2)==4
def test_a(): assert f(3)==9
""",
    "class-pytest": """
class TestF:
    def test_a(self): assert f(3)==9
""",
    "class-setup": """
class TestF:
    def setup_method(self): self.x=3
    def test_a(self): assert f(self.x)==9
""",
    "class-setup2": """
class TestF:
    def setup_method(self, method): self.x=3
    def test_a(self): assert f(self.x)==9
""",
    "class-setupclass": """
class TestF:
    @classmethod
    def setup_class(cls): cls.x=3
    def test_a(self): assert f(self.x)==9
""",
    "async": "async def test_a(): assert f(3)==9",
    "async+sync": """
async def test_a():
    assert f(3)==9
def test_b(): assert f(2)==4
""",
    "async-mark": """
import pytest
@pytest.mark.asyncio
async def test_a(): assert f(3)==9
""",
    "param": """
import pytest
@pytest.mark.parametrize('x,y',[(2,4),(3,9)])
def test_a(x,y): assert f(x)==y
""",
    "param1": """
import pytest
@pytest.mark.parametrize('x',[2,3])
def test_a(x): assert f(x)==x*x
""",
    "param-list": """
import pytest
@pytest.mark.parametrize(['x','y'],[pytest.param(2,4,id='a'),pytest.param(3,9)])
def test_a(x,y): assert f(x)==y
""",
    "param-stack": """
import pytest
@pytest.mark.parametrize('x',[2,3])
@pytest.mark.parametrize('k',[1])
def test_a(x,k): assert f(x)==x*x*k
""",
    "param-class": """
import pytest
@pytest.mark.parametrize('x',[2,3])
class TestA:
    def test_a(self,x): assert f(x)==x*x
""",
    "param-from": """
from pytest import mark
@mark.parametrize('x',[2,3])
def test_a(x): assert f(x)==x*x
""",
    "fixture": """
import pytest
@pytest.fixture
def three(): return 3
def test_a(three): assert f(three)==9
""",
    "fixture-yield": """
import pytest
@pytest.fixture()
def three():
    yield 3
def test_a(three): assert f(three)==9
""",
    "fixture-dep": """
import pytest
@pytest.fixture(scope='module')
def one(): return 1
@pytest.fixture
def three(one): return one+2
def test_a(three): assert f(three)==9
""",
    "fixture-params": """
import pytest
@pytest.fixture(params=[2,3])
def x(request): return request.param
def test_a(x): assert f(x)==x*x
""",
    "fixture-class": """
import pytest
class TestA:
    @pytest.fixture
    def x(self): return 3
    def test_a(self,x): assert f(x)==9
""",
    "fixture-auto": """
import pytest
state={}
@pytest.fixture(autouse=True)
def go(): state['x']=3
def test_a(): assert f(state['x'])==9
""",
    "fixture-indirect": """
import pytest
@pytest.fixture
def x(request): return request.param
@pytest.mark.parametrize('x',[2,3],indirect=True)
def test_a(x): assert f(x)==x*x
""",
    "check+func": """
def check(candidate): assert candidate(2)==4
def test_a(): assert f(3)==9
""",
    "check+class": """
import unittest
def check(candidate): assert candidate(2)==4
class T(unittest.TestCase):
    def test_a(self): self.assertEqual(f(3),9)
""",
    "check+assert": """
assert f(3)==9
def check(candidate): assert candidate(2)==4
""",
    "assert+check": """
def check(candidate): assert candidate(3)==9
assert f(2)==4
""",
    "subtest": """
import unittest
class T(unittest.TestCase):
    def test_a(self):
        for x in (2,3):
            with self.subTest(x=x): self.assertEqual(f(x),x*x)
""",
    "setUp": """
import unittest
class T(unittest.TestCase):
    def setUp(self): self.x=3
    def test_a(self): self.assertEqual(f(self.x),9)
""",
    "setUpClass": """
import unittest
class T(unittest.TestCase):
    @classmethod
    def setUpClass(cls): cls.x=3
    def test_a(self): self.assertEqual(f(self.x),9)
""",
    "ut-async": """
import unittest
class T(unittest.IsolatedAsyncioTestCase):
    async def test_a(self): self.assertEqual(f(3),9)
""",
    "ut-async-plain": """
import unittest
class T(unittest.TestCase):
    async def test_a(self): self.assertEqual(f(3),9)
""",
    "ut-main": """
import unittest
class T(unittest.TestCase):
    def test_a(self): self.assertEqual(f(3),9)
if __name__=='__main__': unittest.main()
""",
    "ut-main+func": """
import unittest
class T(unittest.TestCase):
    def test_a(self): self.assertEqual(f(2),4)
def test_b(): assert f(3)==9
if __name__=='__main__': unittest.main()
""",
    "ut-main-exit": """
import unittest
class T(unittest.TestCase):
    def test_a(self): self.assertEqual(f(3),9)
unittest.main(argv=[''],exit=False)
""",
    "ut-runner": """
import unittest
class T(unittest.TestCase):
    def test_a(self): self.assertEqual(f(3),9)
suite=unittest.TestLoader().loadTestsFromTestCase(T)
unittest.TextTestRunner().run(suite)
""",
    "ut-from": """
from unittest import TestCase, main
class T(TestCase):
    def test_a(self): self.assertEqual(f(3),9)
if __name__=='__main__': main()
""",
    "ut-inherit": """
import unittest
class Base(unittest.TestCase):
    x=3
class T(Base):
    def test_a(self): self.assertEqual(f(self.x),9)
""",
    "pytest-main": """
import pytest,sys
def test_a(): assert f(3)==9
if __name__=='__main__': sys.exit(pytest.main([__file__]))
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
    "approx": """
import pytest
def test_a(): assert f(3)==pytest.approx(9)
""",
    "approx-list": """
import pytest
def test_a(): assert [f(3),f(2)]==pytest.approx([9,4])
""",
    "raises": """
import pytest
def test_a():
    assert f(3)==9
    with pytest.raises(TypeError): f()
""",
    "raises-match": """
import pytest
def test_a():
    assert f(3)==9
    with pytest.raises(TypeError,match='argument'): f()
""",
    "capsys": """
def test_a(capsys):
    print(f(3))
    assert capsys.readouterr().out=='9\\n'
""",
    "usefixtures": """
import pytest
@pytest.fixture
def fx(): yield
@pytest.mark.usefixtures('fx')
def test_a(): assert f(3)==9
""",
    "xfail": """
import pytest
@pytest.mark.xfail
def test_b(): assert f(3)==10
def test_a(): assert f(3)==9
""",
    "skip-one": """
import pytest
@pytest.mark.skip(reason='x')
def test_b(): assert f(3)==10
def test_a(): assert f(3)==9
""",
    "skipif": """
import pytest,sys
@pytest.mark.skipif(sys.version_info<(3,0),reason='x')
def test_a(): assert f(3)==9
""",
    "nested-def": """
def test_a():
    def inner(): assert f(3)==9
    inner()
""",
    "setup_module": """
def setup_module(module):
    global x
    x=3
def test_a(): assert f(x)==9
""",
    "setup_function": """
def setup_function(function):
    global x
    x=3
def test_a(): assert f(x)==9
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
    "class-camel": """
import unittest
class TestSquare(unittest.TestCase):
    def testIt(self): self.assertTrue(f(3)==9)
""",
}

# None of these can judge a program.
UNUSABLE = {
    "none": "x=1",
    "nocall": "def verify(): assert f(3)==9",
    "uncalled": """
f(1)
def verify(): assert f(3)==9
""",
    "allskip": """
import pytest
@pytest.mark.skip
def test_a(): assert f(3)==9
""",
    "tmp": "def test_a(tmp_path): assert f(3)==9",
    "unkfix": "def test_a(db): assert f(3)==9",
    "hyp": """
from hypothesis import given
def test_a(): assert f(3)==9
""",
    "file": """
d=open('data.txt').read()
assert f(3)==9
""",
    "syntax": "assert f(3)==",
    "undefined": "assert f(3)==helper(3)",
    "attr": """
import math
assert math.nothing(f(3))==9
""",
    "runtime-skip": """
import pytest
def test_a():
    f(1)
    pytest.skip('x')
""",
    "ut-skip": """
import unittest
class T(unittest.TestCase):
    def test_a(self):
        f(1)
        self.skipTest('x')
""",
    "yieldtest": """
def test_a():
    yield f(3)
""",
    "pytestmisc": """
import pytest
pytest.hookimpl
assert f(3)==9
""",
    "sub": """
import subprocess
subprocess.run(['ls'])
assert f(3)==9
""",
    "req": """
import requests
assert f(3)==9
""",
    "own-path": """
def check(candidate):
    for i in range(2):
        found = candidate(i)
        with open(f'/nowhere/{i}.txt') as file: assert file.read() == found
""",
    "loop-undefined": """
for one in [f(3)]: assert one == helper(3)
""",
    "skip-if-own": """
import pytest, sys
def test_a():
    found = f(3)
    if sys.version_info > (3,): pytest.skip('x')
    assert found == 9
""",
    "printonly": "print(f(3))",
    "printonly2": "print(f(3)==9)",
    "helper-unused": "def test_case(x,y): assert f(x)==y",
}


@pytest.mark.parametrize("name", FORMS)
def test_whatever_is_a_test_is_run(judge: Judge, name: str) -> None:
    assert judge(RIGHT, FORMS[name]) is Status.OK
    assert judge(WRONG, FORMS[name]) is Status.WRONG


@pytest.mark.parametrize("name", UNUSABLE)
def test_what_cannot_be_run_is_no_verdict_on_the_program(judge: Judge, name: str) -> None:
    assert judge(RIGHT, UNUSABLE[name]) is Status.INFRA_ERROR


# Tests that hold for RIGHT, with a program that keeps them from saying anything, and one where the file is to blame.
EVADED = {
    "a path that cannot be read": (
        "def f(x): return x",
        "import os\ndef check(candidate):\n    path = candidate(os.devnull)\n    assert open(path).read() == ''\n",
        "def f(x): return '/proc/1/mem'",
    ),
    "a path, through a helper": (
        "def f(x): return x",
        "import os\ndef read(name):\n    with open(name) as file:\n        return file.read()\n"
        "assert read(f(os.devnull)) == ''\n",
        "def f(x): return '/root/'",
    ),
    "a file number": (
        "def f(x): return 2",
        "import os\nassert os.fstat(f(1)).st_size == 0\n",
        "def f(x): return 1234",
    ),
    "a module that is not there": (
        "def f(x): return 'math'",
        "assert __import__(f(1)).sqrt(4) == 2\n",
        "def f(x): return 'nowhere'",
    ),
    "an attribute of a module": (
        "def f(x): return 'sqrt'",
        "import math\nassert getattr(math, f(1))(4) == 2\n",
        "def f(x): return 'nothing'",
    ),
    "no assertion in a loop over nothing": (
        "def f(x): return [1]",
        "def check(candidate):\n    for one in candidate(1):\n        assert one == 1\n",
        "def f(x): return []",
    ),
    "no assertion in a loop over nothing, with pytest": (
        "def f(x): return [1]",
        "import pytest\ndef test_it():\n    for one in f(1):\n        assert one == 1\n",
        "def f(x): return []",
    ),
    "no assertion of a case": (
        "def f(x): return [1]",
        "import unittest\nclass T(unittest.TestCase):\n    def test_it(self):\n"
        "        for one in f(1):\n            self.assertEqual(one, 1)\n",
        "def f(x): return []",
    ),
    "a return before all assertions": (
        RIGHT,
        "def check(candidate):\n    if candidate(3) is None:\n        return\n    assert candidate(3) == 9\n",
        "def f(x): return None",
    ),
    "a skip": (
        RIGHT,
        "import pytest\ndef test_it():\n    found = f(3)\n    if found is None:\n        pytest.skip('no')\n"
        "    assert found == 9\n",
        "def f(x): return None",
    ),
    "a skip, by an exception": (
        RIGHT,
        "import pytest\ndef test_it():\n    try:\n        found = f(3)\n    except NotImplementedError:\n"
        "        pytest.skip('no')\n    assert found == 9\n",
        "def f(x): raise NotImplementedError",
    ),
    "a skip of a case": (
        RIGHT,
        "import unittest\nclass T(unittest.TestCase):\n    def test_it(self):\n        if f(3) is None:\n"
        "            self.skipTest('no')\n        self.assertEqual(f(3), 9)\n",
        "def f(x): return None",
    ),
    "a skip by a mark": (
        RIGHT,
        "import pytest\nassert f(0) == 0\n@pytest.mark.skipif(f(3) is None, reason='no')\ndef test_it():\n"
        "    assert f(3) == 9\n",
        "def f(x): return None if x else 0",
    ),
    "an expected failure": (
        RIGHT,
        "import pytest\ndef test_zero():\n    assert f(0) == 0\ndef test_it():\n    if f(3) != 9:\n"
        "        pytest.xfail('no')\n",
        "def f(x): return x",
    ),
    "a handler with a name that is not there": (
        RIGHT,
        "def check(candidate):\n    try:\n        assert candidate(3) == 9\n    except AssertionError:\n"
        "        log('failed')\n        raise\n",
        WRONG,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EVADED)
def test_a_program_that_keeps_tests_from_judging_it_has_failed_them(judge: Judge, name: str) -> None:
    right, test, evading = EVADED[name]
    assert judge(right, test) is Status.OK
    assert judge(evading, test) is Status.WRONG
