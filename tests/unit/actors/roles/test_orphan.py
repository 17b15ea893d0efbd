"""A process that nobody needs any more, tried with a real one."""

import subprocess
import sys
import time

PROGRAM = """
import time
from actors.roles.orphan import when_orphaned
from actors.transport.lifeline import Lifeline
line = Lifeline("tcp://127.0.0.1:9")
when_orphaned(line, 2.0, lambda: print("asked to stop", flush=True), 0.1)
for _ in range(25):
    line.told("")
    time.sleep(0.1)
print("alone", flush=True)
time.sleep(120)
"""


def test_it_ends_by_itself_though_its_role_does_not_and_not_before_it_is_alone() -> None:
    began = time.monotonic()
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=110, check=False)
    assert ended.returncode == 1
    assert ended.stdout.split("\n") == ["alone", "asked to stop", ""]
    assert time.monotonic() - began >= 4.0
