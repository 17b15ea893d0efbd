"""Who the roles talk to."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.unit.actors.transport.test_client import FakeReplay


@pytest.fixture
def replay() -> Iterator[FakeReplay]:
    with closing(FakeReplay()) as fake:
        yield fake
