"""Attacks that try to read what is outside: files, other processes, what earlier runs or the pool left."""

from __future__ import annotations

from cases import attack, reach

attack("reads a planted file", "files", "stdio", "print(open('@FILE@').read())\n")
attack(
    "reads it by os.open",
    "files",
    "stdio",
    """
import os
print(os.read(os.open('@FILE@', os.O_RDONLY), 100).decode())
""",
)
attack(
    "reads it by relative path",
    "files",
    "stdio",
    """
import os
print(open(os.path.relpath('@FILE@', os.getcwd() or '/')).read())
""",
)
attack("reads it through /proc/self/root", "files", "stdio", "print(open('/proc/self/root@FILE@').read())\n")
attack(
    "reads it through io_open_code",
    "files",
    "stdio",
    """
import io
print(io.open_code('@FILE@').read().decode())
""",
)
attack(
    "reads it through linecache",
    "files",
    "stdio",
    """
import linecache
print(linecache.getline('@FILE@', 1))
""",
)
attack(
    "reads it by importing",
    "files",
    "stdio",
    """
import importlib.util
s = importlib.util.spec_from_file_location('m', '@FILE@', loader=importlib.machinery.SourceFileLoader('m', '@FILE@'))
print(s.loader.get_data('@FILE@').decode())
""",
)
attack(
    "reads it by mmap",
    "files",
    "stdio",
    """
import mmap
f = open('@FILE@', 'r+b')
print(mmap.mmap(f.fileno(), 0)[:].decode())
""",
)
attack(
    "reads it by openat2",
    "files",
    "stdio",
    """
import ctypes, os, struct
libc = ctypes.CDLL(None)
fd = libc.syscall(437, -100, b'@FILE@', struct.pack('QQQ', 0, 0, 0), 24)
print(os.read(fd, 100).decode())
""",
)
attack(
    "reads it in a thread",
    "files",
    "stdio",
    """
import threading
t = threading.Thread(target=lambda: print(open('@FILE@').read()))
t.start()
t.join()
""",
)
attack(
    "reads it by shell",
    "shells",
    "stdio",
    """
import subprocess
print(subprocess.run(['cat', '@FILE@'], capture_output=True, text=True).stdout)
""",
)
attack(
    "reads it by os.system",
    "shells",
    "stdio",
    """
import os
os.system('cat @FILE@')
""",
)
attack(
    "reads it by os.popen",
    "shells",
    "stdio",
    """
import os
print(os.popen('cat @FILE@').read())
""",
)
attack(
    "reads it by posix_spawn",
    "shells",
    "stdio",
    """
import os
os.waitpid(os.posix_spawn('/bin/cat', ['cat', '@FILE@'], {}), 0)
""",
)
attack(
    "reads it by libc.system",
    "shells",
    "stdio",
    """
import ctypes
ctypes.CDLL(None).system(b'cat @FILE@')
""",
)
attack(
    "reads it by execveat",
    "shells",
    "stdio",
    """
import ctypes, platform
a = (ctypes.c_char_p * 3)(b'cat', b'@FILE@', None)
n = 281 if platform.machine() == 'aarch64' else 322
ctypes.CDLL(None).syscall(n, -100, b'/bin/cat', a, None, 0)
""",
)
attack(
    "reads another process's environment",
    "/proc",
    "stdio",
    """
import re
print(re.search('token-[0-9a-f]{32}', open('/proc/@SENTINEL@/environ').read())[0])
""",
)
attack(
    "reads another process's memory",
    "/proc",
    "stdio",
    """
import re
for line in open('/proc/@SENTINEL@/maps'):
    if '[stack]' in line:
        a, b = (int(v, 16) for v in line.split()[0].split('-'))
        f = open('/proc/@SENTINEL@/mem', 'rb')
        f.seek(a)
        print(re.search(rb'token-[0-9a-f]{32}', f.read(b - a))[0].decode())
""",
)
reach(
    "reads the pool's environment",
    "/proc",
    """
open('/proc/@POOL@/environ').read()
print('REACHED')
""",
)
reach(
    "lists the processes",
    "/proc",
    """
import os
os.listdir('/proc')
print('REACHED')
""",
)
reach(
    "reads its own maps",
    "/proc",
    """
open('/proc/self/maps').read()
print('REACHED')
""",
)
reach(
    "lists the planted directory",
    "files",
    """
import os
if os.listdir('@DIR@'): print('REACHED')
""",
)
reach(
    "lists the root",
    "files",
    """
import os
if os.listdir('/'): print('REACHED')
""",
)
reach(
    "reads the user database",
    "files",
    """
open('/etc/passwd').read()
print('REACHED')
""",
)
reach(
    "reads the service-account token's place",
    "files",
    """
import os
os.listdir('/var')
print('REACHED')
""",
)
reach(
    "finds an environment of ours",
    "leaks",
    """
import os
harmless = {'PATH', 'LANG', 'HOME', 'LC_CTYPE', 'OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS'}
if set(os.environ) - harmless: print('REACHED')
""",
)
reach(
    "finds an inherited descriptor",
    "leaks",
    """
import os
for fd in [3, *range(5, 1024)]:
    try:
        os.fstat(fd)
        print('REACHED')
        break
    except OSError: pass
""",
    control=False,
)
