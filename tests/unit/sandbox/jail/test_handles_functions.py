"""Tests see the functions of a program as they would in one process, and what these raise."""

from __future__ import annotations

import pytest

from sandbox import Status
from tests.unit.sandbox.jail.conftest import Judge

CASES = {
    "lambda": (
        "f",
        "def f(g,x): return g(x)",
        "assert f(lambda v:v+1,3)==4",
    ),
    "map-fn": (
        "f",
        "def f(g,xs): return [g(x) for x in xs]",
        """
def dbl(x): return 2*x
assert f(dbl,[1,2])==[2,4]
assert f(str,[1,2])==['1','2']
assert f(len,['a','bb'])==[1,2]
assert f(str.upper,['a'])==['A']
import math
assert f(math.sqrt,[4])==[2.0]
""",
    ),
    "sort-key": (
        "f",
        "def f(xs,key=None): return sorted(xs,key=key)",
        """
assert f([3,1,2],key=lambda x:-x)==[3,2,1]
assert f(['bb','a'],key=len)==['a','bb']
""",
    ),
    "compose": (
        "f",
        """
def f(*fs):
    def g(x):
        for h in fs: x=h(x)
        return x
    return g
""",
        """
assert f(lambda x:x+1, lambda x:x*2)(3)==8
assert f()(5)==5
""",
    ),
    "closure": (
        "f",
        """
def f(n):
    c=[n]
    def inc():
        c[0]+=1
        return c[0]
    return inc
""",
        """
a=f(1); b=f(10)
assert a()==2 and a()==3 and b()==11
""",
    ),
    "curry": (
        "f",
        """
import inspect
def f(fn):
    n=len(inspect.signature(fn).parameters)
    def g(*a):
        return fn(*a) if len(a)>=n else lambda *b: g(*a,*b)
    return g
""",
        "assert f(lambda a,b,c:a+b+c)(1)(2)(3)==6",
    ),
    "curry-code": (
        "f",
        """
def f(fn):
    n=fn.__code__.co_argcount
    def g(*a):
        return fn(*a) if len(a)>=n else lambda *b: g(*a,*b)
    return g
""",
        """
def add(a,b): return a+b
assert f(add)(1)(2)==3
""",
    ),
    "decorator": (
        "f",
        """
import functools
def f(fn):
    cache={}
    @functools.wraps(fn)
    def w(*a):
        if a not in cache: cache[a]=fn(*a)
        return cache[a]
    return w
""",
        """
calls=[]
@f
def fib(n):
    'doc'
    calls.append(n)
    return n if n<2 else fib(n-1)+fib(n-2)
assert fib(20)==6765 and len(calls)==21
assert fib.__name__=='fib' and fib.__doc__=='doc'
""",
    ),
    "retry": (
        "f",
        """
def f(n):
    def deco(fn):
        def w(*a,**k):
            for i in range(n):
                try: return fn(*a,**k)
                except Exception as e: err=e
            raise err
        return w
    return deco
""",
        """
k=[0]
@f(3)
def flaky():
    k[0]+=1
    if k[0]<3: raise ValueError('x')
    return 'ok'
assert flaky()=='ok' and k[0]==3
@f(2)
def bad(): raise KeyError('k')
try:
    bad(); assert False
except KeyError as e: assert e.args==('k',)
""",
    ),
    "own-exc": (
        "f",
        """
class Err(Exception):
    def __init__(self,msg,code): super().__init__(msg); self.code=code
def f(x): raise Err('no',x)
""",
        """
try:
    f(3); assert False
except Err as e: assert e.code==3 and str(e)=='no'
import pytest
with pytest.raises(Err) as i: f(4)
assert i.value.code==4
import unittest
class T(unittest.TestCase):
    def test(self):
        with self.assertRaises(Err) as c: f(5)
        self.assertEqual(c.exception.code,5)
""",
    ),
    "own-exc-sub": (
        "f",
        """
class Base(Exception): pass
class Err(Base,ValueError): pass
def f(x): raise Err('bad')
""",
        """
for k in (Base,Err,ValueError):
    try:
        f(1); assert False
    except k as e: assert 'bad' in str(e)
assert issubclass(Err,Base)
""",
    ),
    "exc-json": (
        "f",
        """
import json
def f(s): return json.loads(s)
""",
        """
import json,pytest
with pytest.raises(json.JSONDecodeError): f('{')
assert f('1')==1
""",
    ),
    "exc-zero": (
        "f",
        "def f(a): return 1/a",
        """
import pytest
with pytest.raises(ZeroDivisionError): f(0)
""",
    ),
    "sysexit": (
        "f",
        """
import sys
def f(a): sys.exit(a)
""",
        """
import pytest
with pytest.raises(SystemExit) as e: f(2)
assert e.value.code==2
""",
    ),
    "lru": (
        "f",
        """
import functools
@functools.lru_cache
def f(x): return x*x
""",
        """
assert f(3)==9 and f(3)==9 and f.cache_info().hits==1
f.cache_clear()
assert f.cache_info().hits==0
""",
    ),
    "fn-attr": (
        "f",
        """
def f(x):
    f.calls+=1
    return x
f.calls=0
""",
        """
f(1); f(2)
assert f.calls==2
assert f.__name__=='f'
""",
    ),
    "partial": (
        "f",
        """
from functools import partial
def f(n): return partial(pow,n)
""",
        "assert f(2)(5)==32",
    ),
}
WRONG = {
    "lambda": (
        "f",
        "def f(g,x): return x+2",
        "assert f(lambda v:v+1,3)==4",
    ),
    "own-exc": (
        "f",
        """
class Err(Exception): pass
class Other(Exception): pass
def f(x): raise Other('bad')
""",
        """
import pytest
with pytest.raises(Err): f(1)
""",
    ),
    "sysexit": (
        "f",
        """
import sys
def f(a): sys.exit(0)
""",
        "assert f(3)==9",
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
