"""What pytest runs in a way of its own is run so."""

from __future__ import annotations

import pytest

from sandbox import Status
from tests.unit.sandbox.jail.conftest import RIGHT, WRONG, Judge

# Each holds only if the square of three is nine.
FORMS = {
    "class-pytest": """
class TestF:
    def test_a(self): assert f(3)==9
""",
    "class-setup": """
class TestF:
    def setup_method(self): self.x=3
    def test_a(self): assert f(self.x)==9
""",
    "class-setup2": """
class TestF:
    def setup_method(self, method): self.x=3
    def test_a(self): assert f(self.x)==9
""",
    "class-setupclass": """
class TestF:
    @classmethod
    def setup_class(cls): cls.x=3
    def test_a(self): assert f(self.x)==9
""",
    "async-mark": """
import pytest
@pytest.mark.asyncio
async def test_a(): assert f(3)==9
""",
    "param": """
import pytest
@pytest.mark.parametrize('x,y',[(2,4),(3,9)])
def test_a(x,y): assert f(x)==y
""",
    "param1": """
import pytest
@pytest.mark.parametrize('x',[2,3])
def test_a(x): assert f(x)==x*x
""",
    "param-list": """
import pytest
@pytest.mark.parametrize(['x','y'],[pytest.param(2,4,id='a'),pytest.param(3,9)])
def test_a(x,y): assert f(x)==y
""",
    "param-stack": """
import pytest
@pytest.mark.parametrize('x',[2,3])
@pytest.mark.parametrize('k',[1])
def test_a(x,k): assert f(x)==x*x*k
""",
    "param-class": """
import pytest
@pytest.mark.parametrize('x',[2,3])
class TestA:
    def test_a(self,x): assert f(x)==x*x
""",
    "param-from": """
from pytest import mark
@mark.parametrize('x',[2,3])
def test_a(x): assert f(x)==x*x
""",
    "fixture": """
import pytest
@pytest.fixture
def three(): return 3
def test_a(three): assert f(three)==9
""",
    "fixture-yield": """
import pytest
@pytest.fixture()
def three():
    yield 3
def test_a(three): assert f(three)==9
""",
    "fixture-dep": """
import pytest
@pytest.fixture(scope='module')
def one(): return 1
@pytest.fixture
def three(one): return one+2
def test_a(three): assert f(three)==9
""",
    "fixture-params": """
import pytest
@pytest.fixture(params=[2,3])
def x(request): return request.param
def test_a(x): assert f(x)==x*x
""",
    "fixture-class": """
import pytest
class TestA:
    @pytest.fixture
    def x(self): return 3
    def test_a(self,x): assert f(x)==9
""",
    "fixture-auto": """
import pytest
state={}
@pytest.fixture(autouse=True)
def go(): state['x']=3
def test_a(): assert f(state['x'])==9
""",
    "fixture-indirect": """
import pytest
@pytest.fixture
def x(request): return request.param
@pytest.mark.parametrize('x',[2,3],indirect=True)
def test_a(x): assert f(x)==x*x
""",
    "pytest-main": """
import pytest,sys
def test_a(): assert f(3)==9
if __name__=='__main__': sys.exit(pytest.main([__file__]))
""",
    "approx": """
import pytest
def test_a(): assert f(3)==pytest.approx(9)
""",
    "approx-list": """
import pytest
def test_a(): assert [f(3),f(2)]==pytest.approx([9,4])
""",
    "raises": """
import pytest
def test_a():
    assert f(3)==9
    with pytest.raises(TypeError): f()
""",
    "raises-match": """
import pytest
def test_a():
    assert f(3)==9
    with pytest.raises(TypeError,match='argument'): f()
""",
    "capsys": """
def test_a(capsys):
    print(f(3))
    assert capsys.readouterr().out=='9\\n'
""",
    "usefixtures": """
import pytest
@pytest.fixture
def fx(): yield
@pytest.mark.usefixtures('fx')
def test_a(): assert f(3)==9
""",
    "xfail": """
import pytest
@pytest.mark.xfail
def test_b(): assert f(3)==10
def test_a(): assert f(3)==9
""",
    "skip-one": """
import pytest
@pytest.mark.skip(reason='x')
def test_b(): assert f(3)==10
def test_a(): assert f(3)==9
""",
    "skipif": """
import pytest,sys
@pytest.mark.skipif(sys.version_info<(3,0),reason='x')
def test_a(): assert f(3)==9
""",
    "setup_module": """
def setup_module(module):
    global x
    x=3
def test_a(): assert f(x)==9
""",
    "setup_function": """
def setup_function(function):
    global x
    x=3
def test_a(): assert f(x)==9
""",
}


@pytest.mark.parametrize("name", FORMS)
def test_whatever_is_a_test_is_run(judge: Judge, name: str) -> None:
    assert judge(RIGHT, FORMS[name]) is Status.OK
    assert judge(WRONG, FORMS[name]) is Status.WRONG
