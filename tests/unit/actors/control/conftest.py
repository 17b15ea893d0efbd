"""A controller at work, for the tests of its life."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.actors.control.controller_life import Life, ReplayStarter


@pytest.fixture
def life(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Life]:
    """With the overrides that the test is parametrized with, if it is."""
    handlers = list(logging.getLogger().handlers)
    starter = ReplayStarter()
    life = Life(tmp_path, starter, *(request.param if hasattr(request, "param") else ()))
    yield life
    life.controller.stop()
    life.end()
    starter.halt_replay()
    for handler in set(logging.getLogger().handlers) - set(handlers):
        logging.getLogger().removeHandler(handler)
        handler.close()
