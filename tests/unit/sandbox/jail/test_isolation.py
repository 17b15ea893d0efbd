"""The isolation layers: the filter on both architectures, the self-test, and what happens when a process is gone."""

from __future__ import annotations

import os
import platform
import re
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox import IsolationError, Pool, RewardConfig, SandboxConfig, Status, Submission
from sandbox.jail import seccomp, syscalls
from sandbox.programs import self_test
from sandbox.programs.fork_server import ProgramForkServer
from sandbox.programs.run import Run

CONFIG = SandboxConfig(test_seconds=5.0)
_ERRNO, _ALLOW, _KILL = 0x00050000, 0x7FFF0000, 0x80000000


@pytest.fixture(scope="module")
def fork_server() -> Iterator[ProgramForkServer]:
    made = ProgramForkServer(CONFIG, 64_000)
    yield made
    made.close()


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


def _output(fork_server: ProgramForkServer, source: str) -> str:
    job: dict[str, Any] = {"kind": "stdio", "source": source}
    with Run(fork_server, job, CONFIG, b"", 5.0, True) as run:
        run.wait()
    return (run.output(run.stdout_fd) + run.output(run.stderr_fd)).decode()


def test_self_test_passes_under_all_layers(fork_server: ProgramForkServer) -> None:
    self_test.check(fork_server, CONFIG)


def test_self_test_finds_missing_layers_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    name = uuid.uuid4().hex
    monkeypatch.setattr(self_test.secrets, "token_hex", lambda *_: name)
    config = SandboxConfig(unsafe=True)
    bare = ProgramForkServer(config, 64_000)
    try:
        with pytest.raises(IsolationError, match=r"read a planted file.*connect by TCP.*fork.*write to /tmp/"):
            self_test.check(bare, config)
    finally:
        bare.close()
    assert [path for folder in ("/", "/tmp", "/dev/shm") for path in Path(folder).glob(f"*{name}*")] == []


def test_programs_are_refused_while_the_self_test_leaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_test, "_PROGRAM", 'print(\'{"tried": ["x"], "leaked": ["read a planted file"]}\')')
    submission = Submission("stdio", "```python\nprint(1)\n```", {"tests": [{"stdin": "", "stdout": "1"}]})
    with Pool(SandboxConfig(workers=1), RewardConfig()) as pool:
        [verdict] = pool.score([submission], 30)
    assert (verdict.status, verdict.reward) == (Status.INFRA_ERROR, None)
    assert "read a planted file" in verdict.detail


def test_paths_outside_cannot_be_seen_where_namespaces_are_allowed(
    fork_server: ProgramForkServer, tmp_path: Path
) -> None:
    if "root" not in fork_server.layers["own"]:
        pytest.skip("mount namespaces are not allowed here")
    assert "FileNotFoundError" in _output(fork_server, f"import os\nprint(os.stat({str(tmp_path)!r}))")
    assert "FileNotFoundError" in _output(fork_server, "import os\nprint(os.stat('/etc/passwd'))")


def test_children_see_no_frame_module_or_descriptor_of_a_judge(fork_server: ProgramForkServer) -> None:
    source = "import sys\nprint(sorted(name for name in sys.modules if 'sandbox' in name or 'pydantic' in name))"
    assert _output(fork_server, source).strip() == "[]"


def test_a_program_killed_from_outside_is_run_again() -> None:
    submission = Submission(
        "stdio", "```python\nimport time\ntime.sleep(0.5)\nprint(1)\n```", {"tests": [{"stdin": "", "stdout": "1"}]}
    )
    with Pool(SandboxConfig(workers=1), RewardConfig()) as pool:
        pool.score([submission], 30)
        victims = _children()
        assert victims
        os.kill(next(iter(victims)), signal.SIGKILL)
        again = Submission("stdio", submission.response + "\n", submission.reference)
        [verdict] = pool.score([again], 30)
    assert verdict.status is Status.OK


def _children() -> set[int]:
    return {int(pid) for listing in Path("/proc/self/task").glob("*/children") for pid in listing.read_text().split()}


@pytest.mark.skipif(platform.machine() not in syscalls.ARCHITECTURES, reason="no table for this machine")
def test_there_is_a_table_for_this_machine() -> None:
    assert syscalls.native() is not None
