"""Tests see the objects of a program as they would in one process: with operators, as contexts, of libraries."""

from __future__ import annotations

import pytest

from sandbox import Status
from tests.unit.sandbox.jail.conftest import Judge

CASES = {
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
}
WRONG = {
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
}


@pytest.mark.parametrize("name", CASES)
def test_right_programs_pass(judge: Judge, name: str) -> None:
    entry, program, test = CASES[name]
    assert judge(program, test, entry) is Status.OK


@pytest.mark.parametrize("name", WRONG)
def test_wrong_programs_fail(judge: Judge, name: str) -> None:
    entry, program, test = WRONG[name]
    assert judge(program, test, entry) is Status.WRONG
