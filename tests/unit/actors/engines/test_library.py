"""A library of the machine's that is not there."""

import pytest

from actors.engines.library import require_library
from actors.errors import EngineError


def test_a_library_that_the_machine_lacks_is_named_with_its_package() -> None:
    require_library()
    with pytest.raises(EngineError, match=r"libnone\.so\.1.*apt-get install libnuma1"):
        require_library("libnone.so.1")
