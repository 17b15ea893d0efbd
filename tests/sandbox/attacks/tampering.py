"""Attacks that try to change files."""

from __future__ import annotations

from cases import reach

reach(
    "writes a file",
    "tampering",
    """
open('@TARGET@', 'w').write('x')
print('REACHED')
""",
)
reach(
    "overwrites a file",
    "tampering",
    """
open('@FILE@', 'w').write('x')
print('REACHED')
""",
)
reach(
    "appends to a file",
    "tampering",
    """
open('@FILE@', 'a').write('x')
print('REACHED')
""",
)
reach(
    "truncates a file by path",
    "tampering",
    """
import os
os.truncate('@FILE@', 1)
print('REACHED')
""",
)
reach(
    "removes a file",
    "tampering",
    """
import os
os.unlink('@FILE@')
print('REACHED')
""",
)
reach(
    "renames a file",
    "tampering",
    """
import os
os.rename('@FILE@', '@TARGET@')
print('REACHED')
""",
)
reach(
    "changes a file's mode",
    "tampering",
    """
import os
os.chmod('@FILE@', 0)
print('REACHED')
""",
)
reach(
    "changes a file's times",
    "tampering",
    """
import os
os.utime('@FILE@', (0, 0))
print('REACHED')
""",
)
reach(
    "makes a directory",
    "tampering",
    """
import os
os.mkdir('@TARGET@')
print('REACHED')
""",
)
reach(
    "makes a symbolic link",
    "tampering",
    """
import os
os.symlink('@FILE@', '@TARGET@')
print('REACHED')
""",
)
reach(
    "makes a hard link",
    "tampering",
    """
import os
os.link('@FILE@', '@TARGET@')
print('REACHED')
""",
)
reach(
    "makes a fifo",
    "tampering",
    """
import os
os.mkfifo('@TARGET@')
print('REACHED')
""",
)
reach(
    "makes a unix socket",
    "tampering",
    """
import socket
socket.socket(socket.AF_UNIX).bind('@TARGET@')
print('REACHED')
""",
)
reach(
    "writes to /tmp",
    "tampering",
    """
import tempfile
tempfile.NamedTemporaryFile().write(b'x')
print('REACHED')
""",
)
reach(
    "writes to shared memory",
    "tampering",
    """
open('/dev/shm/attack-@POOL@', 'w').write('x')
import os
os.unlink('/dev/shm/attack-@POOL@')
print('REACHED')
""",
)
reach(
    "writes bytecode caches",
    "tampering",
    """
import os, py_compile
py_compile.compile(os.__file__, cfile='@TARGET@')
print('REACHED')
""",
)
