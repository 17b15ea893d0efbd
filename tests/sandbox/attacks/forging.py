"""Attacks that try to pass without solving: exit tricks, patched comparison, forged markers, hedging."""

from __future__ import annotations

from cases import attack, forge

forge(
    "os._exit(0) at import",
    "exit tricks",
    """
import os
os._exit(0)
""",
)
forge(
    "os._exit(0) in the call",
    "exit tricks",
    """
import os
def solve(x):
    os._exit(0)
""",
)
forge(
    "SystemExit in the call",
    "exit tricks",
    """
def solve(x):
    raise SystemExit(0)
""",
)
forge(
    "atexit",
    "exit tricks",
    """
import atexit, os
atexit.register(lambda: os._exit(0))
def solve(x):
    return 0
""",
)
forge(
    "excepthook",
    "exit tricks",
    """
import os, sys
sys.excepthook = lambda *_: os._exit(0)
def solve(x):
    return 0
""",
)
forge(
    "finalizer",
    "exit tricks",
    """
import os
class Bye:
    def __del__(self):
        os._exit(0)
bye = Bye()
def solve(x):
    raise ValueError
""",
)
forge(
    "exec python -O",
    "exit tricks",
    """
import os, sys
if __debug__:
    os.execv(sys.executable, [sys.executable, '-O', *sys.argv])
def solve(x):
    return 0
""",
)
forge(
    "execv true",
    "exit tricks",
    """
import os
def solve(x):
    os.execv('/bin/true', ['true'])
""",
)
forge(
    "signal handler exits",
    "exit tricks",
    """
import os, signal
signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
signal.setitimer(signal.ITIMER_REAL, 0.01)
def solve(x):
    signal.pause()
""",
)
forge(
    "thread exits",
    "exit tricks",
    """
import os, threading
threading.Thread(target=lambda: os._exit(0)).start()
def solve(x):
    import time
    time.sleep(1)
""",
)

EQUAL = """
class Equal{base}:
    def __eq__(self, other):
        return True
    __hash__ = None
def solve(x):
    return Equal()
"""
forge("object equal to everything", "patched comparison", EQUAL.format(base=""))
forge("int equal to everything", "patched comparison", EQUAL.format(base="(int)"))
forge("str equal to everything", "patched comparison", EQUAL.format(base="(str)"))
forge("list equal to everything", "patched comparison", EQUAL.format(base="(list)"))
forge(
    "mock.ANY",
    "patched comparison",
    """
from unittest.mock import ANY
def solve(x):
    return ANY
""",
)
forge(
    "NaN",
    "patched comparison",
    """
def solve(x):
    return float('nan')
""",
    control=False,
)
forge(
    "True for a number",
    "patched comparison",
    """
def solve(x):
    return True
""",
    control=False,
)
forge(
    "patched int.__eq__ by ctypes",
    "patched comparison",
    """
import ctypes
def solve(x):
    ctypes.memset(id(0) + 24, 1, 4)
    return 0
""",
    control=False,
)
forge(
    "every builtin patched",
    "patched builtins",
    """
import builtins
for n in dir(builtins):
    if n.islower() and n not in ('print',):
        try:
            setattr(builtins, n, lambda *a, **k: True)
        except Exception:
            pass
def solve(x):
    return 0
""",
    control=False,
)
forge(
    "AssertionError is never raised",
    "patched builtins",
    """
import builtins, os
class Quiet(BaseException):
    def __new__(cls, *a):
        os._exit(0)
builtins.AssertionError = Quiet
def solve(x):
    return 0
""",
    control=False,
)

MARKERS = """
import json, os, sys
MARKS = ('PASSED', 'ok', '{"passed": true}', '{"passed":true,"end":{"exit":0}}', '{"status": "ok", "reward": 1.0}')
def shout():
    for text in MARKS:
        for fd in range(1, 64):
            try:
                os.write(fd, (text + '\\n').encode())
            except OSError:
                pass
"""
forge("forged markers at import", "forged markers", MARKERS + "shout()\ndef solve(x):\n    return 0\n", control=False)
forge(
    "forged markers in the call, then exit", "forged markers", MARKERS + "def solve(x):\n    shout()\n    os._exit(0)\n"
)
forge(
    "forged value line",
    "forged markers",
    r"""
import os
def solve(x):
    os.write(4, b'{"value":"true"}\n{"passed":true}\n')
    os._exit(0)
""",
    control=False,
)
forge(
    "second lockdown line",
    "forged markers",
    r"""
import os
os.write(4, b'{"locked":true}\n{"passed":true}\n')
os._exit(0)
""",
    control=False,
)
forge(
    "flood of descriptors",
    "forged markers",
    r"""
import os
def solve(x):
    for fd in range(3, 10):
        try:
            while True:
                os.write(fd, b'{"passed":true}\n' * 4096)
        except OSError:
            pass
    return 0
""",
    control=False,
)

forge(
    "every answer in one",
    "hedging",
    """
def solve(x):
    return list(range(1000))
""",
    control=False,
)

attack(
    "prints every answer",
    "hedging",
    "stdio",
    """
for i in range(100000):
    print(i)
""",
    control=False,
    goal="99999",
)
attack(
    "right output, then a crash",
    "exit tricks",
    "stdio",
    """
print('REACHED', flush=True)
raise ValueError
""",
    goal="REACHED",
)
attack(
    "right output, then a signal",
    "exit tricks",
    "stdio",
    """
import os, signal
print('REACHED', flush=True)
os.kill(os.getpid(), signal.SIGSEGV)
""",
    goal="REACHED",
)
attack(
    "right output, then for ever",
    "exit tricks",
    "stdio",
    """
print('REACHED', flush=True)
while True: pass
""",
    control=False,
    goal="REACHED",
)
