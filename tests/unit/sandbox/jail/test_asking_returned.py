"""Tests ask the objects that a program returns what they would ask in one process."""

from __future__ import annotations

import pytest

from sandbox import Status
from tests.unit.sandbox.jail.conftest import Judge

CASES = {
    "inherit": (
        "f",
        """
from abc import ABC,abstractmethod
class Shape(ABC):
    @abstractmethod
    def area(self): ...
class Sq(Shape):
    def __init__(self,a): self.a=a
    def area(self): return self.a**2
def f(): return Sq(2)
""",
        """
import pytest
assert f().area()==4 and isinstance(f(),Shape) and issubclass(Sq,Shape)
with pytest.raises(TypeError): Shape()
""",
    ),
    "prop-set": (
        "T",
        """
class T:
    def __init__(self): self._c=0
    @property
    def c(self): return self._c
    @c.setter
    def c(self,v):
        if v<0: raise ValueError('neg')
        self._c=v
""",
        """
t=T()
t.c=5
assert t.c==5
try:
    t.c=-1; assert False
except ValueError: pass
t.extra=3
assert t.extra==3
del t.extra
assert not hasattr(t,'extra')
""",
    ),
    "frozen": (
        "f",
        """
from dataclasses import dataclass
@dataclass(frozen=True,order=True)
class P:
    x:int
def f(): return P(1)
""",
        """
import dataclasses,pytest
with pytest.raises(dataclasses.FrozenInstanceError): f().x=2
assert P(1)<P(2) and hash(P(1))==hash(P(1)) and {P(1):2}[P(1)]==2 and max(P(1),P(3)).x==3
""",
    ),
    "singleton": (
        "f",
        """
class S:
    _i=None
    def __new__(cls):
        if cls._i is None: cls._i=super().__new__(cls)
        return cls._i
def f(): return S()
""",
        "assert f() is f() and S() is S() and f() is S()",
    ),
    "type-arg": (
        "f",
        "def f(x,t): return isinstance(x,t)",
        """
from decimal import Decimal
assert f(1,int) and not f('a',int) and f('a',(int,str)) and f(Decimal(1),Decimal) and f([],list)
""",
    ),
    "type-ret": (
        "f",
        "def f(x): return type(x)",
        "assert f(1) is int and f('a')==str and f([]) is list and f(None) is type(None)",
    ),
    "exc-ret": (
        "f",
        """
def f(x):
    try: return int(x)
    except ValueError as e: return e
""",
        "assert isinstance(f('a'),ValueError) and f('1')==1",
    ),
    "stdvals": (
        "f",
        """
from collections import *
import uuid,pathlib,decimal,fractions
def f():
    plain=Counter('aab'),OrderedDict(a=1),defaultdict(list,{1:[2]}),deque([1],2)
    return *plain,pathlib.PurePosixPath('a/b'),decimal.Decimal('1.5'),\\
        fractions.Fraction(1,2),range(3),slice(1,2),...,bytearray(b'a'),memoryview(b'ab').tolist(),complex(1,2)
""",
        """
from collections import *
r=f()
assert r[0].most_common(1)==[('a',2)] and isinstance(r[0],Counter)
assert r[1]==OrderedDict(a=1) and r[2][5]==[] and r[3].maxlen==2 and r[4].name=='b'
assert r[6]*2==1 and r[9] is ... and r[12].real==1
""",
    ),
    "chainmap": (
        "f",
        """
from collections import ChainMap
def f(): return ChainMap({'a':1},{'b':2})
""",
        """
c=f()
assert c['a']==1 and dict(c)=={'a':1,'b':2} and 'b' in c and len(c)==2 and sorted(c)==['a','b']
""",
    ),
    "userlist": (
        "f",
        """
class L(list):
    def total(self): return sum(self)
def f(x): return L(x)
""",
        """
r=f([1,2])
assert r==[1,2] and r.total()==3 and len(r)==2 and r[0]==1 and list(r)==[1,2] and sorted(r)==[1,2]
r.append(4)
assert r.total()==7 and r==[1,2,4] and 4 in r and r+[1]==[1,2,4,1]
l=L([1]); l.append(2)
assert l==[1,2]
""",
    ),
    "userdict": (
        "f",
        """
class D(dict):
    def __getattr__(self,k): return self[k]
def f(): return D(a=1)
""",
        """
d=f()
assert d=={'a':1} and d.a==1 and d['a']==1
d['b']=2
assert d=={'a':1,'b':2} and dict(d)=={'a':1,'b':2} and 'b' in d
""",
    ),
    "strsub": (
        "f",
        """
class S(str):
    def shout(self): return self.upper()+'!'
def f(x): return S(x)
""",
        """
assert f('a')=='a' and f('a').shout()=='A!' and isinstance(f('a'),str) and f('a')+'b'=='ab'
""",
    ),
    "vec-nt": (
        "f",
        """
from typing import NamedTuple
class V(NamedTuple):
    x:int
    y:int
    def __add__(self,o): return V(self.x+o.x,self.y+o.y)
    def __neg__(self): return V(-self.x,-self.y)
    def __str__(self): return f'<{self.x},{self.y}>'
def f(a,b): return V(a,b)
""",
        """
assert f(1,2)+f(3,4)==V(4,6)==(4,6) and -f(1,2)==(-1,-2) and str(f(1,2))=='<1,2>'
assert len(f(1,2))==2 and f(1,2)!=(1,3) and hash(f(1,2))==hash((1,2))
assert f(1,2)+(3,)==(1,2,3)
""",
    ),
    "money-int": (
        "f",
        """
class M(int):
    def __add__(self,o): return M(int(self)+int(o))
    def __repr__(self): return f'${int(self)}'
def f(x): return M(x)
""",
        "assert f(2)+f(3)==5 and repr(f(2))=='$2' and f(2)+1==3 and f(2)>1",
    ),
    "deepcopy": (
        "f",
        """
class N:
    def __init__(self): self.d=[1]
def f(): return N()
""",
        """
import copy
n=f(); m=copy.deepcopy(n); k=copy.copy(n)
m.d=[2]
assert n.d==[1] and m.d==[2] and k is not n and m is not n
""",
    ),
    "identity": (
        "f",
        """
class N: pass
n=N()
def f(): return n
def g(x): return x is n
""",
        "assert f() is f() and g(f())",
    ),
    "list-handles": (
        "f",
        """
class Node:
    def __init__(self,v,next=None): self.v=v; self.next=next
def f(n): return [Node(i) for i in range(n)]
""",
        """
r=f(3)
assert [n.v for n in r]==[0,1,2] and isinstance(r[0],Node)
""",
    ),
    "dict-handles": (
        "f",
        """
class Node:
    def __init__(self,v,next=None): self.v=v; self.next=next
def f(): return {'a':Node(1)}
""",
        "assert f()['a'].v==1",
    ),
    "kwargs": (
        "f",
        "def f(*a,**k): return a,k",
        "assert f(1,2,x=3)==((1,2),{'x':3})",
    ),
    "default-ret-method": (
        "f",
        """
class A:
    def m(self): return self.n
    def n(self): return 5
def f(): return A()
""",
        "assert f().m()()==5",
    ),
    "format": (
        "f",
        """
class M:
    def __format__(self,s): return 'M'+s
    def __str__(self): return 'str'
def f(): return M()
""",
        "assert f'{f():>3}'=='M>3' and str(f())=='str' and '%s'%f()=='str'",
    ),
    "getattr-dyn": (
        "f",
        """
class A:
    def __getattr__(self,n): return n
def f(): return A()
""",
        "assert f().foo=='foo' and getattr(f(),'bar')=='bar'",
    ),
    "slots": (
        "f",
        """
class A:
    __slots__=('x',)
    def __init__(self): self.x=1
def f(): return A()
""",
        """
import pytest
a=f()
assert a.x==1
with pytest.raises(AttributeError): a.y=2
""",
    ),
    "desc-dir": (
        "f",
        """
class A:
    def m(self): 'doc'
def f(): return A()
""",
        "assert 'm' in dir(f())",
    ),
    "order-by": (
        "f",
        """
class P:
    def __init__(self,n): self.n=n
    def __lt__(self,o): return self.n<o.n
def f(xs): return [P(x) for x in xs]
""",
        """
assert [p.n for p in sorted(f([2,1]))]==[1,2]
import heapq
h=f([3,1,2])
heapq.heapify(h)
assert heapq.heappop(h).n==1
""",
    ),
    "lots": (
        "f",
        """
class P:
    def __init__(self,n): self.n=n
def f(n): return P(n)
""",
        "for i in range(300): assert f(i).n==i",
    ),
    "recursive-struct": (
        "f",
        "def f(d): return len(d)",
        """
a=[1]
assert f({'a':a,'b':a})==2
""",
    ),
    "bool-str": (
        "f",
        "def f(x): return bool(x)",
        "assert f(1) is True and f(0) is False",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_right_programs_pass(judge: Judge, name: str) -> None:
    entry, program, test = CASES[name]
    assert judge(program, test, entry) is Status.OK
