"""What cannot be run judges nobody, and a program that keeps tests from judging it has failed them."""

from __future__ import annotations

import pytest

from sandbox import Status
from tests.unit.sandbox.jail.conftest import RIGHT, WRONG, Judge

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
