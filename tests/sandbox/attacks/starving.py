"""Attacks that try to use up time, memory, processes, descriptors or disk, or to make the judge wait."""

from __future__ import annotations

from cases import attack, forge


def starve(name: str, source: str, family: str = "starving") -> None:
    """Add a program that must not end in anything but a plain failure."""
    attack(name, family, "stdio", source, control=False, goal="REACHED")


starve("endless loop", "while True: pass\n")
starve("endless sleep", "import time\ntime.sleep(10**6)\n")
starve("waits for input that is not there", "import sys, time\nsys.stdin.read()\ntime.sleep(10**6)\n")
starve("ignores every signal", "import signal\nfor s in range(1, 65):\n    try: signal.signal(s, signal.SIG_IGN)\n    except (OSError, ValueError): pass\nwhile True: pass\n")  # fmt: skip
starve("swallows every exception", "while True:\n    try:\n        while True: pass\n    except BaseException: pass\n")
starve("stops itself", "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)\n")
starve("closes its streams and stays", "import os, time\nfor fd in range(5):\n    try: os.close(fd)\n    except OSError: pass\ntime.sleep(10**6)\n")  # fmt: skip
starve("big integer in C", "10 ** (10 ** 9)\n")
starve("catastrophic regular expression", "import re\nre.match(r'(a+)+$', 'a' * 64 + 'b')\n")
starve("compiles a bomb", "exec(compile('(' * 90 + '1' + ')' * 90 + '+' + '+'.join(['x'] * 10**6), 'b', 'exec'))\n")
starve("sorts for ever", "class C:\n    def __lt__(self, o):\n        while True: pass\nsorted([C(), C()])\n")
starve("waits at exit", "import atexit, time\natexit.register(time.sleep, 10**6)\n")
starve("waits in a thread", "import threading, time\nthreading.Thread(target=time.sleep, args=(10**6,)).start()\n")
starve(
    "busy in many threads",
    "import threading\ndef spin():\n    while True: pass\nfor _ in range(8): threading.Thread(target=spin).start()\n",
)
starve("thread bomb", "import threading, time\nthreading.stack_size(32768)\nwhile True: threading.Thread(target=time.sleep, args=(10**6,)).start()\n")  # fmt: skip
starve("fork bomb", "import os\nwhile True: os.fork()\n")
starve("memory", "a = bytearray(1 << 40)\n", "memory")
starve("memory bit by bit", "a = []\nwhile True: a.append(bytearray(1 << 20))\n", "memory")
starve("memory by mmap", "import mmap\na = []\nwhile True:\n    m = mmap.mmap(-1, 1 << 24)\n    m[::4096] = b'x' * (1 << 12)\n    a.append(m)\n", "memory")  # fmt: skip
starve("memory in the compiler", "x = [0] * (1 << 40)\n", "memory")
starve("memory kept in caught errors", "a = []\nwhile True:\n    try:\n        while True: a.append('x' * (1 << 16))\n    except MemoryError: pass\n", "memory")  # fmt: skip
starve("memory in pipes", "import os\nwhile True:\n    r, w = os.pipe()\n    os.set_blocking(w, False)\n    try:\n        while True: os.write(w, b'x' * 65536)\n    except BlockingIOError: pass\n", "memory")  # fmt: skip
starve("floods stdout", "while True: print('x' * 65536)\n", "floods")
starve("floods stderr", "import sys\nwhile True: sys.stderr.write('x' * 65536)\n", "floods")
starve("floods the result", "import os\nwhile True: os.write(4, b'x' * 65536)\n", "floods")
starve("floods with empty lines", "import os\nwhile True: os.write(4, b'\\n' * 65536)\n", "floods")
starve("prints binary", "import os\nos.write(1, bytes(range(256)) * 1000)\n", "floods")
starve("deep nesting in the result", "import os\nos.write(4, b'[' * 10**6 + b'\\n')\nos._exit(0)\n", "floods")
starve(
    "long number in the result",
    "import os\nos.write(4, b'{\"end\":' + b'9' * 10**6 + b'}\\n')\nos._exit(0)\n",
    "floods",
)
starve("recursion", "def f(): f()\nimport sys\nsys.setrecursionlimit(10**9)\nf()\n", "crashes")
starve("recursion in C", "import sys\nsys.setrecursionlimit(10**9)\nclass A:\n    def __getattr__(self, n): return getattr(self, n + 'x')\nA().a\n", "crashes")  # fmt: skip
starve("null pointer", "import ctypes\nctypes.string_at(0)\n", "crashes")
starve("abort", "import os\nos.abort()\n", "crashes")
starve("crashes in another thread", "import ctypes, threading, time\nthreading.Thread(target=ctypes.string_at, args=(0,)).start()\ntime.sleep(100)\n", "crashes")  # fmt: skip
starve("not Python", '#include <stdio.h>\nint main() { puts("REACHED"); }\n', "bad source")
starve("wrong encoding declared", "# -*- coding: rot13 -*-\ncevag('REACHED')\n", "bad source")
starve("deeply nested source", "-" * 50_000 + "1\n", "bad source")
starve("many brackets", "[" * 50_000 + "\n", "bad source")
starve("fills the disk", "import os\nfor d in ('.', '/tmp', '/dev/shm', '/var/tmp'):\n    try:\n        f = open(d + '/fill', 'wb')\n        while True: f.write(b'x' * (1 << 20))\n    except OSError: pass\n", "disk")  # fmt: skip
starve(
    "undeletable directories",
    "import os\nos.chdir('/tmp')\nfor _ in range(5000):\n    os.mkdir('d', 0)\n    os.chdir('d')\n",
    "disk",
)
starve("descriptors", "import os\nwhile True: os.dup(0)\n", "descriptors")
forge("endless call", "starving", "def solve(x):\n    while True: pass\n", control=False)
forge(
    "answers, then never again",
    "starving",
    "n = 0\ndef solve(x):\n    global n\n    n += 1\n    while n > 0: pass\n",
    control=False,
)
forge("value that takes for ever to encode", "starving", "class L(list):\n    def __iter__(self):\n        while True: yield 1\ndef solve(x):\n    return L([1])\n", control=False)  # fmt: skip
