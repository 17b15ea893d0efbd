"""Memory that is cheap to inherit: nothing of it is needed, and none of it changes what code may do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

_SETTLED = """
import ctypes, os, sys
sys.path.insert(0, {root!r})
from sandbox.jail import memory
libc = ctypes.CDLL(None, use_errno=True)
{before}
objects = [bytes(464) for _ in range(12_000)]
memory.settle(libc)
modes = [line.split()[1] for line in open("/proc/self/maps")]
assert not [mode for mode in modes if "w" in mode and "x" in mode]
pid = os.fork()
if pid == 0:
    os._exit(sum(map(len, objects)) != 464 * 12_000)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), sum(map(len, objects)) == 464 * 12_000)
"""


@pytest.mark.parametrize(
    "before", ["", "assert libc.prctl(41, 1, 0, 0, 0) == 0"], ids=["as it is", "without huge pages"]
)
def test_a_process_and_its_children_go_on_as_before(before: str) -> None:
    source = _SETTLED.format(root=str(Path(__file__).parents[4]), before=before)
    done = subprocess.run([sys.executable, "-I", "-c", source], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("0 True\n", "")


def test_programs_alone_have_nothing_of_tests_in_memory(output_of: Callable[[str], str]) -> None:
    names = ("uuid", "pathlib", "socket", "unittest", "sandbox")
    assert output_of(f"import sys\nprint([name for name in {names} if name in sys.modules])").strip() == "[]"
