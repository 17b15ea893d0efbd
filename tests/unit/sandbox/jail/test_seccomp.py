"""The filter on both architectures, run through a model of the kernel's BPF machine."""

from __future__ import annotations

import pytest

from sandbox.jail import seccomp, syscalls

_ERRNO, _ALLOW, _KILL = 0x00050000, 0x7FFF0000, 0x80000000


def decide(program: list[seccomp.Instruction], audit: int, number: int, *args: int) -> int:
    """What the kernel's BPF machine would return for a system call."""
    data = {0: number, 4: audit}
    for index, value in enumerate([*args, 0, 0, 0, 0, 0, 0][:6]):
        data[16 + 8 * index], data[20 + 8 * index] = value & 0xFFFFFFFF, value >> 32
    accumulator = position = 0
    while True:
        code, yes, no, value = program[position]
        position += 1
        if code == 0x06:
            return value
        if code == 0x20:
            accumulator = data[value]
        elif code == 0x05:
            position += value
        else:
            tests = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}
            position += yes if tests[code] else no


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_filter(machine: str) -> None:
    architecture = syscalls.ARCHITECTURES[machine]
    program = seccomp.assemble(architecture, 1234, files=True)
    assert len(program) < 4096
    checked = architecture.checked

    def verdict(name: str, *args: int) -> int:
        number = {**architecture.allowed, **architecture.files, **checked}[name]
        return decide(program, architecture.audit, number, *args)

    assert verdict("read") == verdict("openat") == _ALLOW
    assert verdict("clone", 0x3D0F00) == _ALLOW  # what pthread_create asks for
    assert verdict("clone", 17) == verdict("clone", 0x10000 | 0x10000000) == _ERRNO | 1
    assert verdict("clone3") == _ERRNO | 38
    assert verdict("kill", 1234, 15) == verdict("tgkill", 1234, 1235, 6) == _ALLOW
    assert verdict("kill", 1234, 9) == verdict("kill", 1, 0) == verdict("kill", 2**64 - 1, 0) == _ERRNO | 1
    assert verdict("prlimit64", 0, 7, 0, 1 << 40) == _ALLOW
    assert verdict("prlimit64", 0, 7, 1 << 40, 0) == verdict("setrlimit", 7, 1) == _ERRNO
    assert verdict("prlimit64", 1, 7, 0, 1) == _ERRNO | 1
    assert verdict("fcntl", 1, 8) == verdict("fcntl", 1, 10) == verdict("fcntl", 1, 1033) == _ERRNO | 1
    assert verdict("prctl", 1, 0) == verdict("prctl", 4, 1) == _ERRNO | 22
    known = {**architecture.allowed, **architecture.files, **checked}.values()
    assert all(decide(program, architecture.audit, n) & 0xFFFF0000 == _ERRNO for n in range(600) if n not in known)
    assert decide(program, 0x40000003, 1) == _KILL
    if architecture.x32:
        assert decide(program, architecture.audit, 0x40000000 | 39) == _KILL
    closed = seccomp.assemble(architecture, 1234, files=False)
    assert decide(closed, architecture.audit, architecture.files["openat"]) == _ERRNO | 1
