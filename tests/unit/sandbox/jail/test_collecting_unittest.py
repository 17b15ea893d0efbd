"""Cases of unittest are run, however they are started."""

from __future__ import annotations

import pytest

from sandbox import Status
from tests.unit.sandbox.jail.conftest import RIGHT, WRONG, Judge

# Each holds only if the square of three is nine.
FORMS = {
    "assert+class": """
import unittest
assert f(2)==4
class T(unittest.TestCase):
    def test_a(self): self.assertEqual(f(3),9)
""",
    "check+class": """
import unittest
def check(candidate): assert candidate(2)==4
class T(unittest.TestCase):
    def test_a(self): self.assertEqual(f(3),9)
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
    "class-camel": """
import unittest
class TestSquare(unittest.TestCase):
    def testIt(self): self.assertTrue(f(3)==9)
""",
}


@pytest.mark.parametrize("name", FORMS)
def test_whatever_is_a_test_is_run(judge: Judge, name: str) -> None:
    assert judge(RIGHT, FORMS[name]) is Status.OK
    assert judge(WRONG, FORMS[name]) is Status.WRONG
