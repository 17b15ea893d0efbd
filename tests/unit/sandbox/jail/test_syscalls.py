"""The system-call tables."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import pytest

from sandbox.jail import syscalls


@pytest.mark.parametrize(
    ("machine", "header", "pattern"),
    [
        ("x86_64", "/usr/include/x86_64-linux-gnu/asm/unistd_64.h", r"__NR_(\w+)\s+(\d+)"),
        ("aarch64", "/usr/include/asm-generic/unistd.h", r"__NR(?:3264)?_(\w+)\s+(\d+)"),
    ],
)
def test_numbers_are_the_kernels(machine: str, header: str, pattern: str) -> None:
    if not Path(header).exists():
        pytest.skip("no kernel headers here")
    numbers = {name: int(value) for name, value in re.findall(pattern, Path(header).read_text())}
    numbers.setdefault("newfstatat", numbers.get("fstatat", -1))
    architecture = syscalls.ARCHITECTURES[machine]
    for name, number in {
        **architecture.allowed,
        **architecture.files,
        **architecture.scratch,
        **architecture.checked,
    }.items():
        assert numbers[name] == number, name


@pytest.mark.skipif(platform.machine() not in syscalls.ARCHITECTURES, reason="no table for this machine")
def test_there_is_a_table_for_this_machine() -> None:
    assert syscalls.native() is not None
