"""Tests see the objects of a program as they would in one process: classes, instances, functions, iterators."""

from __future__ import annotations

import pytest

from sandbox import Status
from tests.unit.sandbox.jail.conftest import Judge

CASES = {
    "cls": (
        "f",
        """
class Node:
    def __init__(self,v,next=None): self.v=v; self.next=next
def f(n): return 0 if n is None else 1+f(n.next)
""",
        """
n=Node(1); n.next=Node(2)
assert f(n)==2
""",
    ),
    "long-list": (
        "f",
        """
class Node:
    def __init__(self,v,next=None): self.v=v; self.next=next
def f(n):
    c=0
    while n: c+=1; n=n.next
    return c
""",
        """
h=None
for i in range(500): h=Node(i,h)
assert f(h)==500
""",
    ),
    "reverse": (
        "f",
        """
class Node:
    def __init__(self,v,next=None): self.v=v; self.next=next
def f(n):
    p=None
    while n: n.next,p,n=p,n,n.next
    return p
""",
        """
h=Node(1,Node(2,Node(3)))
r=f(h)
out=[]
while r: out.append(r.v); r=r.next
assert out==[3,2,1]
""",
    ),
    "reverse-own": (
        "f",
        """
class Node:
    def __init__(self,v,next=None): self.v=v; self.next=next
def f(n):
    p=None
    while n: n.next,p,n=p,n,n.next
    return p
""",
        """
class Node:
    def __init__(self,v,next=None): self.v=v; self.next=next
h=Node(1,Node(2,Node(3)))
r=f(h)
out=[]
while r: out.append(r.v); r=r.next
assert out==[3,2,1]
""",
    ),
    "testnode": (
        "f",
        """
def f(n):
    p=None
    while n: n.next,p,n=p,n,n.next
    return p
""",
        """
class Node:
    def __init__(self,v,next=None): self.v=v; self.next=next
h=Node(1,Node(2,Node(3)))
r=f(h)
out=[]
while r: out.append(r.v); r=r.next
assert out==[3,2,1]
""",
    ),
    "testnode-count": (
        "f",
        """
def f(n):
    c=0
    while n: c+=1; n=n.next
    return c
""",
        """
class Node:
    def __init__(self,v,next=None): self.v=v; self.next=next
h=None
for i in range(300): h=Node(i,h)
assert f(h)==300
""",
    ),
    "tree": (
        "f",
        """
class TreeNode:
    def __init__(self,val=0,left=None,right=None): self.val=val; self.left=left; self.right=right
class Solution:
    def f(self,r):
        return 0 if not r else 1+max(self.f(r.left),self.f(r.right))
""",
        """
r=TreeNode(1,TreeNode(2),TreeNode(3,TreeNode(4)))
assert Solution().f(r)==3
assert f(r)==3
""",
    ),
    "leet-tree": (
        "f",
        """
class Solution:
    def f(self,r:Optional[TreeNode])->int:
        return 0 if not r else 1+max(self.f(r.left),self.f(r.right))
""",
        """
r=TreeNode(1,TreeNode(2),TreeNode(3,TreeNode(4)))
assert f(r)==3
""",
    ),
    "leet-tree-own": (
        "f",
        """
class Solution:
    def f(self,r:Optional[TreeNode])->int:
        return 0 if not r else 1+max(self.f(r.left),self.f(r.right))
""",
        """
class TreeNode:
    def __init__(self,val=0,left=None,right=None): self.val=val; self.left=left; self.right=right
r=TreeNode(1,TreeNode(2),TreeNode(3,TreeNode(4)))
assert f(r)==3
assert Solution().f(r)==3
""",
    ),
    "dataclass": (
        "f",
        """
from dataclasses import dataclass
@dataclass
class Point:
    x:int
    y:int
    def norm(self): return self.x**2+self.y**2
def f(a): return Point(a,a+1)
""",
        """
assert f(1)==Point(1,2)
assert f(1).x==1
assert f(1).norm()==5
assert f(1)!=Point(2,2)
assert repr(f(1))=='Point(x=1, y=2)'
""",
    ),
    "dataclass-lib": (
        "f",
        """
from dataclasses import dataclass
@dataclass
class Point:
    x:int
    y:int
    def norm(self): return self.x**2+self.y**2
def f(a): return Point(a,a+1)
""",
        """
from dataclasses import asdict,replace,is_dataclass,fields
assert asdict(f(1))=={'x':1,'y':2}
assert replace(f(1),y=5)==Point(1,5)
assert is_dataclass(f(1)) and [q.name for q in fields(Point)]==['x','y']
assert vars(f(1))=={'x':1,'y':2}
""",
    ),
    "dc-test": (
        "f",
        "def f(p): return p.x+p.y",
        """
from dataclasses import dataclass
@dataclass
class Point:
    x:int
    y:int
    def norm(self): return self.x**2+self.y**2
assert f(Point(1,2))==3
""",
    ),
    "dc-both": (
        "f",
        """
from dataclasses import dataclass
@dataclass
class Point:
    x:int
    y:int
    def norm(self): return self.x**2+self.y**2
def f(a): return Point(a,a+1)
""",
        """
from dataclasses import dataclass
@dataclass
class Point:
    x:int
    y:int
    def norm(self): return self.x**2+self.y**2
p=f(1)
assert (p.x,p.y)==(1,2)
""",
    ),
    "enum": (
        "f",
        """
from enum import Enum
class Color(Enum):
    RED=1
    BLUE=2
def f(x): return Color(x)
""",
        """
assert f(1) is Color.RED
assert f(2)==Color.BLUE
assert f(1).name=='RED' and f(1).value==1
assert [c.name for c in Color]==['RED','BLUE']
assert Color['RED'] is f(1)
assert len(Color)==2
assert f(1) in {Color.RED:1}
assert isinstance(f(1),Color)
""",
    ),
    "intenum": (
        "f",
        """
from enum import IntEnum
class C(IntEnum):
    A=1
    B=2
def f(x): return C(x)
""",
        "assert f(1)==1 and f(1) is C.A and f(2).name=='B' and f(1)<f(2)",
    ),
    "namedtuple": (
        "f",
        """
from collections import namedtuple
P=namedtuple('P','x y')
def f(a): return P(a,2)
""",
        """
assert f(1)==(1,2) and f(1).x==1 and f(1)==P(1,2) and f(1)._asdict()=={'x':1,'y':2} and isinstance(f(1),tuple)
a,b=f(1)
assert b==2
""",
    ),
    "NamedTuple": (
        "f",
        """
from typing import NamedTuple
class P(NamedTuple):
    x:int
    y:int=5
    def s(self): return self.x+self.y
def f(a): return P(a)
""",
        "assert f(1).s()==6 and f(1)==(1,5) and f(1)[1]==5",
    ),
    "timedelta": (
        "f",
        """
from datetime import timedelta
def f(a): return timedelta(hours=a)
""",
        """
from datetime import timedelta
assert f(2)==timedelta(hours=2) and f(2).total_seconds()==7200
""",
    ),
    "time": (
        "f",
        """
import datetime
def f(a): return a.time(), a.replace(tzinfo=datetime.timezone.utc)
""",
        """
import datetime as d
x=d.datetime(2020,1,2,3,4)
assert f(x)==(d.time(3,4),d.datetime(2020,1,2,3,4,tzinfo=d.timezone.utc))
""",
    ),
    "match": (
        "f",
        """
import re
def f(s): return re.search(r'(\\d+)-(\\d+)',s)
""",
        """
m=f('ab 12-34')
assert m and m.group(1)=='12' and m.groups()==('12','34') and m.span()==(3,8)
assert f('x') is None
assert m[2]=='34'
""",
    ),
    "pattern": (
        "f",
        """
import re
def f(): return re.compile('a+')
""",
        "assert f().match('aab').group()=='aa' and f().findall('a baa')==['a','aa']",
    ),
    "np-arr": (
        "f",
        """
import numpy as np
def f(a): return np.array(a)*2
""",
        """
import numpy as np
r=f([1,2])
assert isinstance(r,np.ndarray) and r.shape==(2,) and (r==np.array([2,4])).all() and r.dtype==np.int64
assert np.array_equal(r,[2,4])
assert r.tolist()==[2,4]
""",
    ),
    "np-arg": (
        "f",
        """
import numpy as np
def f(a): return a.sum(axis=0)
""",
        """
import numpy as np
assert f(np.arange(6).reshape(2,3)).tolist()==[3,5,7]
np.testing.assert_allclose(f(np.ones((2,2))),[2,2])
""",
    ),
    "np-inplace": (
        "f",
        """
import numpy as np
def f(a): a*=2
""",
        """
import numpy as np
a=np.array([1,2])
f(a)
assert a.tolist()==[2,4]
""",
    ),
    "np-scalar": (
        "f",
        """
import numpy as np
def f(a): return np.mean(a)
""",
        """
import numpy as np
assert abs(f([1,2,3])-2)<1e-9
assert np.isclose(f([1,2]),1.5)
""",
    ),
    "np-bool": (
        "f",
        """
import numpy as np
def f(a): return np.array(a)>1
""",
        "assert f([1,2]).tolist()==[False,True]",
    ),
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
    "stack": (
        "Stack",
        """
class Stack:
    def __init__(self): self._d=[]
    def push(self,x): self._d.append(x)
    def pop(self):
        if not self._d: raise IndexError('empty')
        return self._d.pop()
    def __len__(self): return len(self._d)
    def __bool__(self): return bool(self._d)
    def __iter__(self): return iter(self._d)
    def __contains__(self,x): return x in self._d
    @property
    def top(self): return self._d[-1]
    @classmethod
    def of(cls,*a):
        s=cls()
        for x in a: s.push(x)
        return s
    @staticmethod
    def kind(): return 'lifo'
    size=7
""",
        """
s=Stack()
assert not s
s.push(1); s.push(2)
assert len(s)==2 and s.top==2 and list(s)==[1,2] and 2 in s and 5 not in s
assert s.pop()==2
try:
    s.pop(); s.pop(); assert False
except IndexError as e: assert str(e)=='empty'
assert Stack.of(1,2).pop()==2 and Stack.kind()=='lifo' and Stack.size==7
assert isinstance(s,Stack) and type(s) is Stack and type(s).__name__=='Stack'
assert hasattr(s,'push') and not hasattr(s,'nope')
""",
    ),
    "vec": (
        "f",
        """
class Vec:
    def __init__(self,x,y): self.x=x; self.y=y
    def __add__(self,o): return Vec(self.x+o.x,self.y+o.y)
    def __mul__(self,k): return Vec(self.x*k,self.y*k) if not isinstance(k,Vec) else self.x*k.x+self.y*k.y
    __rmul__=__mul__
    def __eq__(self,o): return isinstance(o,Vec) and (self.x,self.y)==(o.x,o.y)
    def __hash__(self): return hash((self.x,self.y))
    def __repr__(self): return f'Vec({self.x}, {self.y})'
    def __abs__(self): return (self.x**2+self.y**2)**.5
    def __neg__(self): return Vec(-self.x,-self.y)
    def __getitem__(self,i): return (self.x,self.y)[i]
    def __iter__(self): yield self.x; yield self.y
    def __lt__(self,o): return abs(self)<abs(o)
    def __bool__(self): return bool(self.x or self.y)
    def __iadd__(self,o): self.x+=o.x; self.y+=o.y; return self
def f(x,y): return Vec(x,y)
""",
        """
a=Vec(1,2); b=Vec(3,4)
assert a+b==Vec(4,6) and a*3==Vec(3,6)
assert 3*a==Vec(3,6) and a*b==11
assert abs(b)==5 and -a==Vec(-1,-2) and a[0]==1 and list(a)==[1,2] and str(a)=='Vec(1, 2)'
assert (a+b)*2==Vec(8,12) and ((a+b)*2).x==8
assert a<b and sorted([b,a])[0]==a and len({a,Vec(1,2)})==1 and a!=b
x,y=a
assert (x,y)==(1,2) and f(1,2)==a and f(1,2) in [a]
a+=b
assert a==Vec(4,6)
assert sum([Vec(1,1),Vec(2,2)],Vec(0,0))==Vec(3,3)
assert not Vec(0,0)
assert a*2+b*2==Vec(14,20)
""",
    ),
    "ctx": (
        "f",
        """
class Ctx:
    def __init__(self): self.log=[]
    def __enter__(self): self.log.append('in'); return self
    def __exit__(self,*a): self.log.append('out' if a[0] is None else a[0].__name__); return a[0] is KeyError
def f(): return Ctx()
""",
        """
c=Ctx()
with c as d:
    assert d is c
assert c.log==['in','out']
with c: raise KeyError('x')
assert c.log[-1]=='KeyError'
try:
    with c: raise ValueError('x')
    assert False
except ValueError: pass
""",
    ),
    "ctxmgr": (
        "f",
        """
from contextlib import contextmanager
log=[]
@contextmanager
def f(x):
    log.append(x)
    try: yield x*2
    finally: log.append('end')
""",
        """
with f(3) as v: assert v==6
import solution
assert solution.log==[3,'end']
""",
    ),
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
    "cls": (
        "f",
        """
class Node:
    def __init__(self,v,next=None): self.v=v; self.next=next
def f(n): return 1
""",
        """
n=Node(1); n.next=Node(2)
assert f(n)==2
""",
    ),
    "dataclass": (
        "f",
        """
from dataclasses import dataclass
@dataclass
class Point:
    x:int
    y:int
    def norm(self): return self.x**2+self.y**2
def f(a): return Point(a,a)
""",
        "assert f(1)==Point(1,2)",
    ),
    "enum": (
        "f",
        """
from enum import Enum
class Color(Enum):
    RED=1
    BLUE=2
def f(x): return Color(1)
""",
        "assert f(2)==Color.BLUE",
    ),
    "np": (
        "f",
        """
import numpy as np
def f(a): return np.array(a)*3
""",
        """
import numpy as np
assert np.array_equal(f([1,2]),[2,4])
""",
    ),
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
    "stack": (
        "Stack",
        """
class Stack:
    def __init__(self): self._d=[]
    def push(self,x): self._d.append(x)
    def pop(self):
        if not self._d: raise IndexError('empty')
        return 1
    def __len__(self): return len(self._d)
    def __bool__(self): return bool(self._d)
    def __iter__(self): return iter(self._d)
    def __contains__(self,x): return x in self._d
    @property
    def top(self): return self._d[-1]
    @classmethod
    def of(cls,*a):
        s=cls()
        for x in a: s.push(x)
        return s
    @staticmethod
    def kind(): return 'lifo'
    size=7
""",
        """
s=Stack()
s.push(1); s.push(2)
assert s.pop()==2
""",
    ),
    "vec": (
        "Vec",
        """
class Vec:
    def __init__(self,x,y): self.x=x; self.y=y
    def __add__(self,o): return Vec(self.x+o.x,self.y)
    def __mul__(self,k): return Vec(self.x*k,self.y*k) if not isinstance(k,Vec) else self.x*k.x+self.y*k.y
    __rmul__=__mul__
    def __eq__(self,o): return isinstance(o,Vec) and (self.x,self.y)==(o.x,o.y)
    def __hash__(self): return hash((self.x,self.y))
    def __repr__(self): return f'Vec({self.x}, {self.y})'
    def __abs__(self): return (self.x**2+self.y**2)**.5
    def __neg__(self): return Vec(-self.x,-self.y)
    def __getitem__(self,i): return (self.x,self.y)[i]
    def __iter__(self): yield self.x; yield self.y
    def __lt__(self,o): return abs(self)<abs(o)
    def __bool__(self): return bool(self.x or self.y)
    def __iadd__(self,o): self.x+=o.x; self.y+=o.y; return self
""",
        "assert Vec(1,2)+Vec(3,4)==Vec(4,6)",
    ),
    "ctx-evil": (
        "f",
        """
class Ctx:
    def __enter__(self): return self
    def __exit__(self,*a): return True
    def v(self): return 1
def f(): return Ctx()
""",
        """
with f() as c:
    assert c.v()==2
""",
    ),
    "ctx-evil2": (
        "f",
        """
class Ctx:
    def __enter__(self): return self
    def __exit__(self,*a): return True
    def v(self): raise ValueError
def f(): return Ctx()
""",
        """
with f() as c:
    assert c.v()==2
""",
    ),
    "ctx-evil3": (
        "f",
        """
class Ctx:
    def __enter__(self): return self
    def __exit__(self,*a): return True
    def v(self): return []
def f(): return Ctx()
""",
        """
with f() as c:
    assert c.v()[3]==2
""",
    ),
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
