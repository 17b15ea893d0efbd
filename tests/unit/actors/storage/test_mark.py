"""A node that sees another run folder than the driver's is named."""

import socket
from pathlib import Path

import pytest

from actors.errors import RunError
from actors.storage.mark import MARK, leave_mark, require_mark

HOST = socket.gethostname()


def test_whoever_sees_the_folder_goes_on(tmp_path: Path) -> None:
    leave_mark(tmp_path)
    require_mark(tmp_path, leave_mark(tmp_path), seconds=0)


def test_a_node_without_the_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=rf"{HOST} sees no run folder under {tmp_path}, where node-a, .*set output"):
        require_mark(tmp_path, "0123 node-a", seconds=0)
    assert list(tmp_path.iterdir()) == []


def test_a_copy_of_an_earlier_start_is_not_taken_for_the_folder(tmp_path: Path) -> None:
    (tmp_path / MARK).write_text("4567 node-b")
    with pytest.raises(RunError, match=f"{HOST} sees another folder, which was marked on node-b.* where node-a,"):
        require_mark(tmp_path, "0123 node-a", seconds=0)
