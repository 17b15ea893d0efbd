"""A stub of a judge, which the tests of a module share."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.unit.actors.roles.verifier.judge_stub import StubJudge, by_length


@pytest.fixture(scope="module")
def server() -> Iterator[StubJudge]:
    with closing(StubJudge(by_length)) as found:
        yield found


@pytest.fixture
def stub(server: StubJudge) -> StubJudge:
    server.script, server.key = by_length, None
    server.prompts.clear()
    return server
