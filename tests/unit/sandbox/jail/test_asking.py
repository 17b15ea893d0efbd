"""Tests give a program objects of their own, and see what it makes of them."""

from __future__ import annotations

import pytest

from sandbox import Pool, Status, Submission
from tests.unit.sandbox.jail.conftest import Judge

CASES = {
    "several": (
        "f",
        """
def g(x): return x+1
def h(x): return x*2
def f(x): return h(g(x))
LIMIT=10
""",
        "assert f(1)==4 and g(1)==2 and h(3)==6 and LIMIT==10",
    ),
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
    "observer": (
        "f",
        """
class E:
    def __init__(self): self.h={}
    def on(self,n,cb): self.h.setdefault(n,[]).append(cb)
    def emit(self,n,*a):
        for cb in self.h.get(n,[]): cb(*a)
def f(): return E()
""",
        """
e=E(); out=[]
e.on('x',lambda v: out.append(v))
e.on('x',out.append)
e.emit('x',3)
assert out==[3,3]
""",
    ),
    "mock": (
        "f",
        """
def f(db,u): 
    db.save(u)
    return db.find(u).name
""",
        """
from unittest.mock import Mock,MagicMock
db=Mock()
db.find.return_value.name='bob'
assert f(db,'u')=='bob'
db.save.assert_called_once_with('u')
""",
    ),
    "fake": (
        "f",
        """
def f(repo): 
    repo.add('a'); repo.add('b')
    return repo.count()
""",
        """
class Repo:
    def __init__(self): self.items=[]
    def add(self,x): self.items.append(x)
    def count(self): return len(self.items)
r=Repo()
assert f(r)==2 and r.items==['a','b']
""",
    ),
    "fake-attr": (
        "f",
        "def f(o): o.x+=1",
        """
class O:
    def __init__(self): self.x=1
o=O()
f(o)
assert o.x==2
""",
    ),
    "fake-callable": (
        "f",
        "def f(g): return g(3)",
        """
class Add:
    def __init__(self,n): self.n=n
    def __call__(self,x): return x+self.n
assert f(Add(2))==5
""",
    ),
    "fake-op": (
        "f",
        "def f(a,b): return a+b",
        """
class M:
    def __init__(self,v): self.v=v
    def __add__(self,o): return M(self.v+o.v)
    def __eq__(self,o): return self.v==o.v
assert f(M(1),M(2))==M(3)
""",
    ),
    "stringio": (
        "f",
        "def f(fh): return [l.strip() for l in fh]",
        """
import io
assert f(io.StringIO('a\\nb\\n'))==['a','b']
""",
    ),
    "stringio-w": (
        "f",
        "def f(fh): fh.write('hi')",
        """
import io
b=io.StringIO()
f(b)
assert b.getvalue()=='hi'
""",
    ),
    "input": (
        "f",
        "def f(): return int(input())*2",
        """
import io,sys
sys.stdin=io.StringIO('21\\n')
assert f()==42
""",
    ),
    "input-patch": (
        "f",
        "def f(): return int(input('n? '))*2",
        """
from unittest.mock import patch
with patch('builtins.input',return_value='21'): assert f()==42
import builtins
builtins.input=lambda p='': '4'
assert f()==8
""",
    ),
    "input-mp": (
        "f",
        "def f(): return int(input())*2",
        """
def test_a(monkeypatch):
    monkeypatch.setattr('builtins.input',lambda *a:'21')
    assert f()==42
""",
    ),
    "printed": (
        "f",
        "def f(): print('hi')",
        """
def test_a(capsys):
    f()
    assert capsys.readouterr().out=='hi\\n'
import io
from contextlib import redirect_stdout
b=io.StringIO()
with redirect_stdout(b): f()
assert b.getvalue()=='hi\\n'
""",
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
    "operators": (
        "f",
        """
import operator
def f(op,a,b): return op(a,b)
""",
        """
import operator
assert f(operator.add,1,2)==3 and f(max,1,2)==2
""",
    ),
    "threads": (
        "f",
        """
import threading
class C:
    def __init__(self): self.n=0; self.l=threading.Lock()
    def inc(self):
        with self.l: self.n+=1
def f(): return C()
""",
        """
import threading
c=f()
ts=[threading.Thread(target=lambda: [c.inc() for _ in range(20)]) for _ in range(4)]
[x.start() for x in ts]; [x.join() for x in ts]
assert c.n==80
""",
    ),
    "he-helper": (
        "f",
        """
def poly(xs,x): return sum(c*x**i for i,c in enumerate(xs))
def f(xs):
    b,e=-1.,1.
    while poly(xs,b)*poly(xs,e)>0: b*=2; e*=2
    while e-b>1e-10:
        c=(b+e)/2
        if poly(xs,c)*poly(xs,b)>0: b=c
        else: e=c
    return b
""",
        """
METADATA={}
def check(candidate):
    import math
    assert math.fabs(poly([1,2],candidate([1,2])))<1e-4
""",
    ),
    "own-globals": (
        "f",
        "def f(x): return x",
        """
x = 5
assert f(x)==5
y=f
assert y(1)==1
assert candidate(2)==2
""",
    ),
    "state-twice": (
        "f",
        """
n=0
def f():
    global n
    n+=1
    return n
""",
        """
def test_a(): assert [f(),f()]==[1,2]
test_a()
""",
    ),
    "sideeffect": (
        "f",
        """
class A:
    count=0
    def __init__(self): A.count+=1
def f(): return A()
""",
        """
f();f()
assert A.count==2
A.count=7
assert A.count==7
""",
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
    "callable-obj": (
        "f",
        """
class A:
    def __call__(self,x): return x+1
f=A()
""",
        "assert f(1)==2 and callable(f)",
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
    "mut-ret": (
        "f",
        """
def f(a):
    a.append(1)
    return a
""",
        """
a=[]
b=f(a)
assert b==[1]
""",
    ),
    "deque-mut": (
        "f",
        "def f(d): d.appendleft(0)",
        """
from collections import deque
d=deque([1])
f(d)
assert list(d)==[0,1]
""",
    ),
    "set-mut": (
        "f",
        "def f(d): d.add(0)",
        """
d={1}
f(d)
assert d=={0,1}
""",
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
    "nonlocal-exc": (
        "f",
        """
def f(cb):
    try: cb()
    except ZeroDivisionError: return 'caught'
""",
        """
def bad(): 1/0
assert f(bad)=='caught'
""",
    ),
    "lambda-in-dict": (
        "f",
        "def f(ops,k,x): return ops[k](x)",
        "assert f({'n':lambda x:-x},'n',3)==-3",
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
    "test-class": (
        "f",
        """
class Point:
    def __init__(s,x,y): s.x=x; s.y=y
def f(a): return Point(a,a+1)
""",
        """
from dataclasses import dataclass
@dataclass
class Point:
    x:int
    y:int
    def norm(self): return self.x**2+self.y**2
assert f(1)==Point(1,2) and isinstance(f(1),Point) and [f(1)]==[Point(1,2)]
""",
    ),
    "cb-threads": (
        "f",
        """
import threading
def f(cb,n):
    ts=[threading.Thread(target=cb,args=(i,)) for i in range(n)]
    [x.start() for x in ts]; [x.join() for x in ts]
""",
        """
out=[]
f(out.append,10)
assert sorted(out)==list(range(10))
""",
    ),
}
WRONG = {
    "mock": (
        "f",
        """
def f(db,u): 
    return 'bob'
""",
        """
from unittest.mock import Mock
db=Mock()
db.find.return_value.name='bob'
assert f(db,'u')=='bob'
db.save.assert_called_once_with('u')
""",
    ),
    "missing-second": (
        "f",
        "def f(x): return x",
        """
from solution import f, g
assert g(1)==2
""",
    ),
    "test-class": (
        "f",
        """
class Point:
    def __init__(s,x,y): s.x=x; s.y=y
    def __eq__(s,o): return True
def f(a): return Point(a,a)
""",
        """
from dataclasses import dataclass
@dataclass
class Point:
    x:int
    y:int
    def norm(self): return self.x**2+self.y**2
assert f(1)==Point(1,2)
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


POINT = """
from dataclasses import dataclass

@dataclass
class Point:
    x: int
    y: int

def same(a, b):
    return a == b

def f(a):
    '''Make a point.'''
"""


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("    return Point(a, a + 1)", Status.OK),
        ("    return Point(a, a)", Status.WRONG),
        ("    return Point(a, a)\nPoint.__eq__ = lambda *_: True\nsame = lambda *_: True", Status.WRONG),
        ("    return Equal()\nclass Equal:\n    def __eq__(self, other): return True", Status.WRONG),
    ],
)
def test_what_the_prompt_defines_is_the_tests(pool: Pool, body: str, status: Status) -> None:
    test = "assert f(1) == Point(1, 2) and isinstance(f(1), Point) and same(f(1), Point(1, 2))"
    reference = {"raw": True, "entry": "f", "test": test}
    [verdict] = pool.score([Submission("assert", POINT + body, reference, POINT)], 120)
    assert verdict.status is status


def test_what_the_prompt_leaves_open_is_the_programs(pool: Pool) -> None:
    prompt = (
        "class Stack:\n    def push(self, x):\n        pass\n    def pop(self):\n        raise NotImplementedError\n"
    )
    program = "class Stack(list):\n    push = list.append\n"
    for program_, status in ((program, Status.OK), (program.replace("append", "count"), Status.WRONG)):
        reference = {"raw": True, "entry": "Stack", "test": "s = Stack()\ns.push(1)\nassert s.pop() == 1"}
        [verdict] = pool.score([Submission("assert", program_, reference, prompt)], 120)
        assert verdict.status is status
