"""Tests give a program objects of their own, and see what it makes of them."""

from __future__ import annotations

import pytest

from sandbox import Status
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
    "callable-obj": (
        "f",
        """
class A:
    def __call__(self,x): return x+1
f=A()
""",
        "assert f(1)==2 and callable(f)",
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
