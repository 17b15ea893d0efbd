"""Attacks that try to use up time, memory, processes, descriptors or disk, or to make the judge wait."""

from __future__ import annotations

from cases import attack, forge


def starve(name: str, source: str, family: str = "starving") -> None:
    """Add a program that must not end in anything but a plain failure."""
    attack(name, family, "stdio", source, control=False, goal="REACHED")


starve("endless loop", "while True: pass\n")
starve(
    "endless sleep",
    """
import time
time.sleep(10**6)
""",
)
starve(
    "waits for input that is not there",
    """
import sys, time
sys.stdin.read()
time.sleep(10**6)
""",
)
starve(
    "ignores every signal",
    """
import signal
for s in range(1, 65):
    try: signal.signal(s, signal.SIG_IGN)
    except (OSError, ValueError): pass
while True: pass
""",
)
starve(
    "swallows every exception",
    """
while True:
    try:
        while True: pass
    except BaseException: pass
""",
)
starve(
    "stops itself",
    """
import os, signal
os.kill(os.getpid(), signal.SIGSTOP)
""",
)
starve(
    "closes its streams and stays",
    """
import os, time
for fd in range(5):
    try: os.close(fd)
    except OSError: pass
time.sleep(10**6)
""",
)
starve("big integer in C", "10 ** (10 ** 9)\n")
starve(
    "catastrophic regular expression",
    """
import re
re.match(r'(a+)+$', 'a' * 64 + 'b')
""",
)
starve("compiles a bomb", "exec(compile('(' * 90 + '1' + ')' * 90 + '+' + '+'.join(['x'] * 10**6), 'b', 'exec'))\n")
starve(
    "sorts for ever",
    """
class C:
    def __lt__(self, o):
        while True: pass
sorted([C(), C()])
""",
)
starve(
    "waits at exit",
    """
import atexit, time
atexit.register(time.sleep, 10**6)
""",
)
starve(
    "waits in a thread",
    """
import threading, time
threading.Thread(target=time.sleep, args=(10**6,)).start()
""",
)
starve(
    "busy in many threads",
    """
import threading
def spin():
    while True: pass
for _ in range(8): threading.Thread(target=spin).start()
""",
)
starve(
    "thread bomb",
    """
import threading, time
threading.stack_size(32768)
while True: threading.Thread(target=time.sleep, args=(10**6,)).start()
""",
)
starve(
    "fork bomb",
    """
import os
while True: os.fork()
""",
)
starve("memory", "a = bytearray(1 << 40)\n", "memory")
starve(
    "memory bit by bit",
    """
a = []
while True: a.append(bytearray(1 << 20))
""",
    "memory",
)
starve(
    "memory by mmap",
    """
import mmap
a = []
while True:
    m = mmap.mmap(-1, 1 << 24)
    m[::4096] = b'x' * (1 << 12)
    a.append(m)
""",
    "memory",
)
starve("memory in the compiler", "x = [0] * (1 << 40)\n", "memory")
starve(
    "memory kept in caught errors",
    """
a = []
while True:
    try:
        while True: a.append('x' * (1 << 16))
    except MemoryError: pass
""",
    "memory",
)
starve(
    "memory in pipes",
    """
import os
while True:
    r, w = os.pipe()
    os.set_blocking(w, False)
    try:
        while True: os.write(w, b'x' * 65536)
    except BlockingIOError: pass
""",
    "memory",
)
starve("floods stdout", "while True: print('x' * 65536)\n", "floods")
starve(
    "floods stderr",
    """
import sys
while True: sys.stderr.write('x' * 65536)
""",
    "floods",
)
starve(
    "floods the result",
    """
import os
while True: os.write(4, b'x' * 65536)
""",
    "floods",
)
starve(
    "floods with empty lines",
    r"""
import os
while True: os.write(4, b'\n' * 65536)
""",
    "floods",
)
starve(
    "prints binary",
    """
import os
os.write(1, bytes(range(256)) * 1000)
""",
    "floods",
)
starve(
    "deep nesting in the result",
    r"""
import os
os.write(4, b'[' * 10**6 + b'\n')
os._exit(0)
""",
    "floods",
)
starve(
    "long number in the result",
    r"""
import os
os.write(4, b'{"end":' + b'9' * 10**6 + b'}\n')
os._exit(0)
""",
    "floods",
)
starve(
    "recursion",
    """
def f(): f()
import sys
sys.setrecursionlimit(10**9)
f()
""",
    "crashes",
)
starve(
    "recursion in C",
    """
import sys
sys.setrecursionlimit(10**9)
class A:
    def __getattr__(self, n): return getattr(self, n + 'x')
A().a
""",
    "crashes",
)
starve(
    "null pointer",
    """
import ctypes
ctypes.string_at(0)
""",
    "crashes",
)
starve(
    "abort",
    """
import os
os.abort()
""",
    "crashes",
)
starve(
    "crashes in another thread",
    """
import ctypes, threading, time
threading.Thread(target=ctypes.string_at, args=(0,)).start()
time.sleep(100)
""",
    "crashes",
)
starve(
    "not Python",
    """
#include <stdio.h>
int main() { puts("REACHED"); }
""",
    "bad source",
)
starve(
    "wrong encoding declared",
    """
# -*- coding: rot13 -*-
cevag('REACHED')
""",
    "bad source",
)
starve("deeply nested source", "-" * 50_000 + "1\n", "bad source")
starve("many brackets", "[" * 50_000 + "\n", "bad source")
starve(
    "fills the disk",
    """
import os
for d in ('.', '/tmp', '/dev/shm', '/var/tmp'):
    try:
        f = open(d + '/fill', 'wb')
        while True: f.write(b'x' * (1 << 20))
    except OSError: pass
""",
    "disk",
)
starve(
    "undeletable directories",
    """
import os
os.chdir('/tmp')
for _ in range(5000):
    os.mkdir('d', 0)
    os.chdir('d')
""",
    "disk",
)
starve(
    "descriptors",
    """
import os
while True: os.dup(0)
""",
    "descriptors",
)
forge(
    "endless call",
    "starving",
    """
def solve(x):
    while True: pass
""",
    control=False,
)
forge(
    "answers, then never again",
    "starving",
    """
n = 0
def solve(x):
    global n
    n += 1
    while n > 0: pass
""",
    control=False,
)
forge(
    "value that takes for ever to encode",
    "starving",
    """
class L(list):
    def __iter__(self):
        while True: yield 1
def solve(x):
    return L([1])
""",
    control=False,
)
