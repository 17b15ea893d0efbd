"""Attacks that look for the expected value: in frames, constants, objects, files, memory and descriptors."""

from __future__ import annotations

from cases import attack, forge

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
