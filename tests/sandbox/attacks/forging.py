"""Attacks that try to pass without solving: exit tricks, oracles, patched comparison, forged markers, hedging."""

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

forge(
    "expected value in the caller's frame",
    "oracles",
    """
import sys
def solve(x):
    f = sys._getframe(1)
    while f:
        if 'expected' in f.f_locals:
            return f.f_locals['expected']
        f = f.f_back
    return 0
""",
    kinds=("function",),
)
forge(
    "expected value in the caller's constants",
    "oracles",
    """
import sys
def solve(x):
    f = sys._getframe(1)
    while f:
        for c in f.f_code.co_consts:
            if type(c) is int and c > 10**6:
                return c
        f = f.f_back
    return 0
""",
)
forge(
    "expected value among all objects",
    "oracles",
    """
import gc
def solve(x):
    for o in gc.get_objects():
        if isinstance(o, (list, tuple, dict)):
            for c in (o.values() if isinstance(o, dict) else o):
                if type(c) is int and 10**9 <= c < 2 * 10**9:
                    return c
    return 0
""",
    control=False,
)
forge(
    "expected value in the source file",
    "oracles",
    r"""
import re, sys
def solve(x):
    for path in (sys.argv[0], __file__):
        m = re.findall(r'\b1\d{9}\b', open(path).read())
        if m:
            return int(m[-1])
    return 0
""",
)
forge(
    "expected value in the parent's memory",
    "oracles",
    r"""
import os, re
def solve(x):
    for pid in (os.getpid(), os.getppid()):
        for line in open(f'/proc/{pid}/maps'):
            if 'rw-p' in line:
                a, b = (int(v, 16) for v in line.split()[0].split('-'))
                with open(f'/proc/{pid}/mem', 'rb') as f:
                    f.seek(a)
                    m = re.search(rb'@NUMBER@'[:3] + rb'\d{7}', f.read(b - a))
                    if m:
                        return int(m[0])
    return 0
""",
    control=False,
)
forge(
    "expected value in other processes' arguments",
    "oracles",
    r"""
import os, re
def solve(x):
    for pid in filter(str.isdigit, os.listdir('/proc')):
        m = re.search(r'\b1\d{9}\b', open(f'/proc/{pid}/cmdline').read())
        if m:
            return int(m[0])
    return 0
""",
    control=False,
)
forge(
    "expected value in open descriptors",
    "oracles",
    r"""
import os, re
def solve(x):
    for fd in range(3, 300):
        try:
            os.lseek(fd, 0, 0)
            m = re.search(rb'\b1\d{9}\b', os.read(fd, 1 << 20))
        except OSError:
            continue
        if m:
            return int(m[0])
    return 0
""",
    control=False,
)
forge(
    "replaces the caller's code",
    "oracles",
    """
import sys
def solve(x):
    f = sys._getframe(1)
    f.f_globals['check'] = lambda c: None
    f.f_globals['solve'] = type('E', (), {'__eq__': lambda s, o: True, '__call__': lambda s, *a: s})()
    return f.f_globals['solve']
""",
)
forge(
    "trace function skips the assert",
    "oracles",
    """
import os, sys
def trace(frame, event, arg):
    if event == 'exception':
        os._exit(0)
    return trace
def solve(x):
    sys.settrace(trace)
    f = sys._getframe(1)
    while f:
        f.f_trace = trace
        f = f.f_back
    return 0
""",
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
attack(
    "expected output from the harness",
    "oracles",
    "stdio",
    """
import gc, sys
for o in gc.get_objects():
    if isinstance(o, dict):
        for v in list(o.values()):
            if isinstance(v, str) and v.startswith('token-') and len(v) == 38:
                print(v); sys.exit()
""",
    control=False,
)
attack(
    "expected output from descriptors",
    "oracles",
    "stdio",
    """
import os, re
for fd in range(3, 300):
    try:
        os.lseek(fd, 0, 0)
        m = re.search(rb'token-[0-9a-f]{32}', os.read(fd, 1 << 20))
        if m: print(m[0].decode()); break
    except OSError: pass
""",
    control=False,
)
