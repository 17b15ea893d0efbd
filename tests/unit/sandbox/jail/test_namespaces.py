"""What a root of its own hides."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox.programs.fork_server import ProgramForkServer


def test_paths_outside_cannot_be_seen_where_namespaces_are_allowed(
    fork_server: ProgramForkServer, output_of: Callable[[str], str], tmp_path: Path
) -> None:
    if "root" not in fork_server.layers["own"]:
        pytest.skip("mount namespaces are not allowed here")
    assert "FileNotFoundError" in output_of(f"import os\nprint(os.stat({str(tmp_path)!r}))")
    assert "FileNotFoundError" in output_of("import os\nprint(os.stat('/etc/passwd'))")
