"""Child interpreters start without anything of ours."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandbox import Pool, RewardConfig, SandboxConfig, Submission, launch
from sandbox.programs import fork_server

FREEZER = Path("/sys/fs/cgroup/freezer")
freezes = pytest.mark.skipif(not os.access(FREEZER, os.W_OK), reason="freezes processes, by the first cgroups")


@pytest.fixture
def freeze() -> Iterator[Callable[[int], None]]:
    """Freezes a process, which no signal ends then; it thaws, and dies of what it was sent, in the end."""
    group = FREEZER / f"leeway-{os.getpid()}-{time.monotonic_ns()}"
    group.mkdir()

    def frozen(pid: int) -> None:
        (group / "cgroup.procs").write_text(str(pid))
        (group / "freezer.state").write_text("FROZEN")
        while (group / "freezer.state").read_text() != "FROZEN\n":
            time.sleep(0.01)

    try:
        yield frozen
    finally:
        (group / "freezer.state").write_text("THAWED")
        deadline = time.monotonic() + 30
        while (group / "cgroup.procs").read_text() and time.monotonic() < deadline:
            time.sleep(0.01)
        group.rmdir()


def test_a_child_sees_no_variable_of_ours_and_leads_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEEWAY_SANDBOX_TOKEN", "secret")
    reader, writer = os.pipe()
    boot = "import json, os, sys\nfound = [dict(os.environ), os.getsid(0) == os.getpid(), os.getcwd()]\n"
    boot += "os.write(int(sys.argv[1]), json.dumps(found).encode())"
    process = launch.interpreter(["-I"], boot, [str(writer)], writer)
    os.close(writer)
    with open(reader, encoding="utf-8") as stream:  # noqa: PTH123 - a descriptor
        environment, leader, directory = json.load(stream)
    launch.end(process)
    assert "secret" not in str(environment)
    assert environment.keys() <= launch.environment().keys() | {"LC_CTYPE"}
    assert (leader, directory) == (True, "/")


def test_a_child_finds_the_sandbox_first() -> None:
    first = launch.import_path()[0]
    assert os.path.samefile(os.path.join(first, "sandbox", "launch.py"), launch.__file__)  # noqa: PTH118, PTH121


@freezes
def test_a_child_that_does_not_die_is_named_and_left_behind(
    freeze: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(launch, "KILL_SECONDS", 0.2)
    reader, writer = os.pipe()
    process = launch.interpreter(["-I", "-S"], "import time\ntime.sleep(1000)", [], writer)
    for fd in (reader, writer):
        os.close(fd)
    freeze(process.pid)
    launch.end(process)
    assert f"process {process.pid} is not gone 0.2 s after it was killed" in caplog.text


@freezes
def test_a_pool_goes_on_whose_fork_server_does_not_die(
    freeze: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "KILL_SECONDS", 0.2)
    monkeypatch.setattr(fork_server, "REAP_SECONDS", 1.0)
    tests = {"tests": [{"stdin": "1\n", "stdout": "2\n"}]}
    with Pool(SandboxConfig(workers=1, cache_entries=0), RewardConfig()) as pool:

        def status() -> str:
            submission = Submission("stdio", "```python\nprint(int(input()) + 1)\n```", tests)
            return str(pool.score([submission], deadline_seconds=60)[0].status)

        assert status() == "ok"
        ((_, used),) = pool._fork_servers._idle[False]
        freeze(used.pid)
        statuses = [status() for _ in range(3)]
    assert statuses[-1] == "ok", statuses
