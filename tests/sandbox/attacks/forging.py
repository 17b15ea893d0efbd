"""Attacks that try to pass without solving: exit tricks, oracles, patched comparison, forged markers, hedging."""

from __future__ import annotations

from cases import attack, forge

forge("os._exit(0) at import", "exit tricks", "import os\nos._exit(0)\n")
forge("os._exit(0) in the call", "exit tricks", "import os\ndef solve(x):\n    os._exit(0)\n")
forge("SystemExit in the call", "exit tricks", "def solve(x):\n    raise SystemExit(0)\n")
forge("atexit", "exit tricks", "import atexit, os\natexit.register(lambda: os._exit(0))\ndef solve(x):\n    return 0\n")
forge(
    "excepthook",
    "exit tricks",
    "import os, sys\nsys.excepthook = lambda *_: os._exit(0)\ndef solve(x):\n    return 0\n",
)
forge(
    "finalizer",
    "exit tricks",
    "import os\nclass Bye:\n    def __del__(self):\n        os._exit(0)\nbye = Bye()\ndef solve(x):\n    raise ValueError\n",
)
forge("exec python -O", "exit tricks", "import os, sys\nif __debug__:\n    os.execv(sys.executable, [sys.executable, '-O', *sys.argv])\ndef solve(x):\n    return 0\n")  # fmt: skip
forge("execv true", "exit tricks", "import os\ndef solve(x):\n    os.execv('/bin/true', ['true'])\n")
forge("signal handler exits", "exit tricks", "import os, signal\nsignal.signal(signal.SIGALRM, lambda *_: os._exit(0))\nsignal.setitimer(signal.ITIMER_REAL, 0.01)\ndef solve(x):\n    signal.pause()\n")  # fmt: skip
forge("thread exits", "exit tricks", "import os, threading\nthreading.Thread(target=lambda: os._exit(0)).start()\ndef solve(x):\n    import time\n    time.sleep(1)\n")  # fmt: skip

EQUAL = "class Equal{base}:\n    def __eq__(self, other):\n        return True\n    __hash__ = None\ndef solve(x):\n    return Equal()\n"
forge("object equal to everything", "patched comparison", EQUAL.format(base=""))
forge("int equal to everything", "patched comparison", EQUAL.format(base="(int)"))
forge("str equal to everything", "patched comparison", EQUAL.format(base="(str)"))
forge("list equal to everything", "patched comparison", EQUAL.format(base="(list)"))
forge("mock.ANY", "patched comparison", "from unittest.mock import ANY\ndef solve(x):\n    return ANY\n")
forge("NaN", "patched comparison", "def solve(x):\n    return float('nan')\n", control=False)
forge("True for a number", "patched comparison", "def solve(x):\n    return True\n", control=False)
forge("patched int.__eq__ by ctypes", "patched comparison", "import ctypes\ndef solve(x):\n    ctypes.memset(id(0) + 24, 1, 4)\n    return 0\n", control=False)  # fmt: skip
forge("every builtin patched", "patched builtins", "import builtins\nfor n in dir(builtins):\n    if n.islower() and n not in ('print',):\n        try:\n            setattr(builtins, n, lambda *a, **k: True)\n        except Exception:\n            pass\ndef solve(x):\n    return 0\n", control=False)  # fmt: skip
forge("AssertionError is never raised", "patched builtins", "import builtins, os\nclass Quiet(BaseException):\n    def __new__(cls, *a):\n        os._exit(0)\nbuiltins.AssertionError = Quiet\ndef solve(x):\n    return 0\n", control=False)  # fmt: skip

forge("expected value in the caller's frame", "oracles", "import sys\ndef solve(x):\n    f = sys._getframe(1)\n    while f:\n        if 'expected' in f.f_locals:\n            return f.f_locals['expected']\n        f = f.f_back\n    return 0\n", kinds=("function",))  # fmt: skip
forge("expected value in the caller's constants", "oracles", "import sys\ndef solve(x):\n    f = sys._getframe(1)\n    while f:\n        for c in f.f_code.co_consts:\n            if type(c) is int and c > 10**6:\n                return c\n        f = f.f_back\n    return 0\n")  # fmt: skip
forge("expected value among all objects", "oracles", "import gc\ndef solve(x):\n    for o in gc.get_objects():\n        if isinstance(o, (list, tuple, dict)):\n            for c in (o.values() if isinstance(o, dict) else o):\n                if type(c) is int and 10**9 <= c < 2 * 10**9:\n                    return c\n    return 0\n", control=False)  # fmt: skip
forge("expected value in the source file", "oracles", "import re, sys\ndef solve(x):\n    for path in (sys.argv[0], __file__):\n        m = re.findall(r'\\b1\\d{9}\\b', open(path).read())\n        if m:\n            return int(m[-1])\n    return 0\n")  # fmt: skip
forge("expected value in the parent's memory", "oracles", "import os, re\ndef solve(x):\n    for pid in (os.getpid(), os.getppid()):\n        for line in open(f'/proc/{pid}/maps'):\n            if 'rw-p' in line:\n                a, b = (int(v, 16) for v in line.split()[0].split('-'))\n                with open(f'/proc/{pid}/mem', 'rb') as f:\n                    f.seek(a)\n                    m = re.search(rb'@NUMBER@'[:3] + rb'\\d{7}', f.read(b - a))\n                    if m:\n                        return int(m[0])\n    return 0\n", control=False)  # fmt: skip
forge("expected value in other processes' arguments", "oracles", "import os, re\ndef solve(x):\n    for pid in filter(str.isdigit, os.listdir('/proc')):\n        m = re.search(r'\\b1\\d{9}\\b', open(f'/proc/{pid}/cmdline').read())\n        if m:\n            return int(m[0])\n    return 0\n", control=False)  # fmt: skip
forge("expected value in open descriptors", "oracles", "import os, re\ndef solve(x):\n    for fd in range(3, 300):\n        try:\n            os.lseek(fd, 0, 0)\n            m = re.search(rb'\\b1\\d{9}\\b', os.read(fd, 1 << 20))\n        except OSError:\n            continue\n        if m:\n            return int(m[0])\n    return 0\n", control=False)  # fmt: skip
forge("replaces the caller's code", "oracles", "import sys\ndef solve(x):\n    f = sys._getframe(1)\n    f.f_globals['check'] = lambda c: None\n    f.f_globals['solve'] = type('E', (), {'__eq__': lambda s, o: True, '__call__': lambda s, *a: s})()\n    return f.f_globals['solve']\n")  # fmt: skip
forge("trace function skips the assert", "oracles", "import os, sys\ndef trace(frame, event, arg):\n    if event == 'exception':\n        os._exit(0)\n    return trace\ndef solve(x):\n    sys.settrace(trace)\n    f = sys._getframe(1)\n    while f:\n        f.f_trace = trace\n        f = f.f_back\n    return 0\n")  # fmt: skip

MARKERS = (
    "import json, os, sys\n"
    "def shout():\n"
    '    for text in (\'PASSED\', \'ok\', \'{"passed": true}\', \'{"passed":true,"end":{"exit":0}}\', \'{"status": "ok", "reward": 1.0}\'):\n'
    "        for fd in range(1, 64):\n"
    "            try:\n"
    "                os.write(fd, (text + '\\n').encode())\n"
    "            except OSError:\n"
    "                pass\n"
)
forge("forged markers at import", "forged markers", MARKERS + "shout()\ndef solve(x):\n    return 0\n", control=False)
forge(
    "forged markers in the call, then exit", "forged markers", MARKERS + "def solve(x):\n    shout()\n    os._exit(0)\n"
)
forge("forged value line", "forged markers", "import os\ndef solve(x):\n    os.write(4, b'{\"value\":\"true\"}\\n{\"passed\":true}\\n')\n    os._exit(0)\n", control=False)  # fmt: skip
forge(
    "second lockdown line",
    "forged markers",
    'import os\nos.write(4, b\'{"locked":true}\\n{"passed":true}\\n\')\nos._exit(0)\n',
    control=False,
)
forge("flood of descriptors", "forged markers", "import os\ndef solve(x):\n    for fd in range(3, 10):\n        try:\n            while True:\n                os.write(fd, b'{\"passed\":true}\\n' * 4096)\n        except OSError:\n            pass\n    return 0\n", control=False)  # fmt: skip

forge("poisoned modules", "poisoned modules", "import sys, types\nfor n in ('json', 're', 'math', 'unittest', 'pytest', 'operator', 'copy'):\n    m = types.ModuleType(n)\n    m.__getattr__ = lambda k: (lambda *a, **kw: True)\n    sys.modules[n] = m\ndef solve(x):\n    return 0\n", control=False)  # fmt: skip
forge("poisoned import hook", "poisoned modules", "import os, sys\nclass Hook:\n    def find_spec(self, *a):\n        os._exit(0)\nsys.meta_path.insert(0, Hook())\nsys.modules.pop('json', None)\ndef solve(x):\n    return 0\n", control=False)  # fmt: skip
forge("patched json encoder", "poisoned modules", "import json\njson.dumps = lambda *a, **k: '{\"passed\": true}'\njson.JSONEncoder.encode = json.dumps\ndef solve(x):\n    return 0\n", control=False)  # fmt: skip
forge("patched harness", "poisoned modules", "import gc, types\nfor o in gc.get_objects():\n    if isinstance(o, types.FunctionType) and 'jail' in o.__code__.co_filename:\n        o.__code__ = (lambda *a, **k: None).__code__\ndef solve(x):\n    return 0\n", control=False)  # fmt: skip
forge("pickle that would run", "poisoned modules", "import os\nclass P:\n    def __reduce__(self):\n        return (os._exit, (0,))\ndef solve(x):\n    return P()\n", control=False)  # fmt: skip
forge("repr that lies", "poisoned modules", "class R:\n    def __repr__(self):\n        return '@NUMBER@'[:0] + '1' * 10\n    __str__ = __repr__\ndef solve(x):\n    return R()\n", control=False)  # fmt: skip
forge(
    "aliases its argument",
    "poisoned modules",
    "def solve(x):\n    x.clear()\n    x.extend([x] * 3)\n    return x\n",
    control=False,
)
forge(
    "self-containing value", "huge values", "def solve(x):\n    a = []\n    a.append(a)\n    return a\n", control=False
)
forge(
    "deep value",
    "huge values",
    "def solve(x):\n    a = []\n    for _ in range(10**5):\n        a = [a]\n    return a\n",
    control=False,
)
forge("huge integer", "huge values", "def solve(x):\n    return 1 << (1 << 26)\n", control=False)
forge("huge list", "huge values", "def solve(x):\n    return [0] * (1 << 25)\n", control=False)
forge(
    "colliding keys",
    "huge values",
    "def solve(x):\n    return {i * (2**61 - 1): i for i in range(3000)}\n",
    control=False,
)
forge(
    "endless generator", "huge values", "import itertools\ndef solve(x):\n    return itertools.count()\n", control=False
)
forge("lone surrogates", "huge values", "def solve(x):\n    return '\\udcff\\ud800' * 1000\n", control=False)
forge("fake time", "fake time", "import time\ntime.time = time.monotonic = time.perf_counter = lambda: 0\ndef solve(x):\n    return 0\n", control=False)  # fmt: skip
forge("every answer in one", "hedging", "def solve(x):\n    return list(range(1000))\n", control=False)

attack(
    "prints every answer", "hedging", "stdio", "for i in range(100000):\n    print(i)\n", control=False, goal="99999"
)
attack(
    "right output, then a crash",
    "exit tricks",
    "stdio",
    "print('REACHED', flush=True)\nraise ValueError\n",
    goal="REACHED",
)
attack("right output, then a signal", "exit tricks", "stdio", "import os, signal\nprint('REACHED', flush=True)\nos.kill(os.getpid(), signal.SIGSEGV)\n", goal="REACHED")  # fmt: skip
attack("right output, then for ever", "exit tricks", "stdio", "print('REACHED', flush=True)\nwhile True: pass\n", control=False, goal="REACHED")  # fmt: skip
attack("expected output from the harness", "oracles", "stdio", "import gc, sys\nfor o in gc.get_objects():\n    if isinstance(o, dict):\n        for v in list(o.values()):\n            if isinstance(v, str) and v.startswith('token-') and len(v) == 38:\n                print(v); sys.exit()\n", control=False)  # fmt: skip
attack("expected output from descriptors", "oracles", "stdio", "import os, re\nfor fd in range(3, 300):\n    try:\n        os.lseek(fd, 0, 0)\n        m = re.search(rb'token-[0-9a-f]{32}', os.read(fd, 1 << 20))\n        if m: print(m[0].decode()); break\n    except OSError: pass\n", control=False)  # fmt: skip
