"""Tests see the generators, iterators and coroutines of a program as they would in one process."""

from __future__ import annotations

import pytest

from sandbox import Status
from tests.unit.sandbox.jail.conftest import Judge

CASES = {
    "gen": (
        "f",
        """
def f(n):
    for i in range(n): yield i
""",
        """
import types
g=f(3)
assert isinstance(g,types.GeneratorType) and next(g)==0 and list(g)==[1,2]
assert list(f(1000))==list(range(1000))
assert next(f(0),None) is None
assert sum(f(10))==45
""",
    ),
    "gen-send": (
        "f",
        """
def f():
    t=0
    while True:
        x=yield t
        if x is None: return t
        t+=x
""",
        """
g=f()
next(g)
assert g.send(3)==3 and g.send(4)==7
try:
    next(g); assert False
except StopIteration as e: assert e.value==7
""",
    ),
    "gen-inf": (
        "f",
        """
def f():
    a,b=0,1
    while True:
        yield a
        a,b=b,a+b
""",
        """
from itertools import islice
assert list(islice(f(),100))[-1]==218922995834555169026
""",
    ),
    "gen-raise": (
        "f",
        """
def f(n):
    for i in range(n): yield i
    raise ValueError('end')
""",
        """
import pytest
g=f(20)
out=[]
with pytest.raises(ValueError):
    for x in g: out.append(x)
assert out==list(range(20))
""",
    ),
    "gen-arg": (
        "f",
        "def f(it): return [x*2 for x in it]",
        """
def g():
    for i in range(100): yield i
assert f(g())==[2*i for i in range(100)]
assert f(iter([1]))==[2] and f(x for x in (1,2))==[2,4] and f(map(int,'12'))==[2,4]
import itertools
""",
    ),
    "gen-inf-arg": (
        "f",
        """
from itertools import islice
def f(it): return list(islice(it,3))
""",
        """
import itertools
assert f(itertools.count())==[0,1,2]
""",
    ),
    "iter-cls": (
        "f",
        """
class R:
    def __init__(self,n): self.n=n; self.i=0
    def __iter__(self): return self
    def __next__(self):
        if self.i>=self.n: raise StopIteration
        self.i+=1
        return self.i
def f(n): return R(n)
""",
        """
assert list(f(3))==[1,2,3]
r=R(2)
assert next(r)==1 and next(r)==2
assert [x for x in f(2)]==[1,2]
""",
    ),
    "async-fn": (
        "f",
        """
import asyncio
async def f(x):
    await asyncio.sleep(0.001)
    return x*x
""",
        """
import asyncio
assert asyncio.run(f(3))==9
async def test_a():
    assert await f(2)==4
    assert await asyncio.gather(f(1),f(2))==[1,4]
""",
    ),
    "async-cb": (
        "f",
        "async def f(cb): return await cb(3)",
        """
import asyncio
async def cb(x): return x*2
assert asyncio.run(f(cb))==6
""",
    ),
    "async-gen": (
        "f",
        """
async def f(n):
    for i in range(n): yield i
""",
        """
import asyncio
async def main(): return [x async for x in f(3)]
assert asyncio.run(main())==[0,1,2]
""",
    ),
    "async-ctx": (
        "f",
        """
class C:
    async def __aenter__(self): return 5
    async def __aexit__(self,*a): return False
def f(): return C()
""",
        """
import asyncio
async def main():
    async with f() as v: return v
assert asyncio.run(main())==5
""",
    ),
}
WRONG = {
    "async-fn": (
        "f",
        """
import asyncio
async def f(x): return 4
""",
        """
import asyncio
async def test_a():
    assert await f(2)==4
    assert await f(3)==9
""",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_right_programs_pass(judge: Judge, name: str) -> None:
    entry, program, test = CASES[name]
    assert judge(program, test, entry) is Status.OK


@pytest.mark.parametrize("name", WRONG)
def test_wrong_programs_fail(judge: Judge, name: str) -> None:
    entry, program, test = WRONG[name]
    assert judge(program, test, entry) is Status.WRONG
