"""Tests see the classes of a program as they would in one process: nodes, dataclasses, enumerations, named tuples."""

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
}


@pytest.mark.parametrize("name", CASES)
def test_right_programs_pass(judge: Judge, name: str) -> None:
    entry, program, test = CASES[name]
    assert judge(program, test, entry) is Status.OK


@pytest.mark.parametrize("name", WRONG)
def test_wrong_programs_fail(judge: Judge, name: str) -> None:
    entry, program, test = WRONG[name]
    assert judge(program, test, entry) is Status.WRONG
