"""Descriptors for children: sealed, and closed here once."""

from __future__ import annotations

import os

import pytest

from sandbox.descriptors import Descriptors, sealed


def test_a_sealed_file_is_read_from_its_start_and_never_changed() -> None:
    fd = sealed(b"content")
    assert os.read(fd, 100) == b"content"
    for change in (lambda: os.write(fd, b"x"), lambda: os.ftruncate(fd, 0), lambda: os.ftruncate(fd, 100)):
        with pytest.raises(PermissionError):
            change()
    os.close(fd)


def test_descriptors_are_closed_with_their_block() -> None:
    with Descriptors() as descriptors:
        fd = descriptors.null()
        os.write(fd, b"x")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    descriptors.close()
