"""Attacks that try to reach the network, signal or start processes, and gain privileges."""

from __future__ import annotations

from cases import reach

reach(
    "connects by TCP",
    "network",
    """
import socket
socket.create_connection(('127.0.0.1', @TCP@))
print('REACHED')
""",
)
reach(
    "sends a datagram",
    "network",
    """
import socket
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', @UDP@))
print('REACHED')
""",
)
reach(
    "connects to a docker socket",
    "network",
    """
import socket
socket.socket(socket.AF_UNIX).connect('@UNIX@')
print('REACHED')
""",
)
reach(
    "connects to an abstract socket",
    "network",
    r"""
import socket
socket.socket(socket.AF_UNIX).connect('\0@ABSTRACT@')
print('REACHED')
""",
)
reach(
    "listens",
    "network",
    """
import socket
socket.create_server(('127.0.0.1', 0))
print('REACHED')
""",
)
reach(
    "opens a socket pair",
    "network",
    """
import socket
socket.socketpair()
print('REACHED')
""",
)
reach(
    "opens a netlink socket",
    "network",
    """
import socket
socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)
print('REACHED')
""",
)

reach(
    "ends another process",
    "signals",
    """
import os
os.kill(@SENTINEL@, 9)
print('REACHED')
""",
)
reach(
    "probes the pool",
    "signals",
    """
import os
os.kill(@POOL@, 0)
print('REACHED')
""",
    control=True,
)
reach(
    "signals its parent",
    "signals",
    """
import os
os.kill(os.getppid(), 0)
print('REACHED')
""",
)
reach(
    "signals its group",
    "signals",
    """
import os, signal
signal.signal(10, signal.SIG_IGN)
os.kill(0, 0)
print('REACHED')
""",
)
reach(
    "opens a pidfd",
    "signals",
    """
import os
os.pidfd_open(@SENTINEL@)
print('REACHED')
""",
)
reach(
    "queues a signal",
    "signals",
    """
import ctypes, platform
b = ctypes.create_string_buffer(128)
n = 138 if platform.machine() == 'aarch64' else 129
if ctypes.CDLL(None).syscall(n, @SENTINEL@, 0, b) == 0: print('REACHED')
else: raise OSError
""",
    control=False,
)
reach(
    "ends itself as if from outside",
    "signals",
    """
import os
os.kill(os.getpid(), 9)
""",
    control=False,
)
reach(
    "limits another process",
    "signals",
    """
import resource
resource.prlimit(@SENTINEL@, resource.RLIMIT_NOFILE)
print('REACHED')
""",
)
reach(
    "renices",
    "signals",
    """
import os
os.nice(-5)
print('REACHED')
""",
    control=False,
)
reach(
    "traces another process",
    "signals",
    """
import ctypes
if ctypes.CDLL(None).ptrace(16, @SENTINEL@, 0, 0) == 0:
    ctypes.CDLL(None).ptrace(17, @SENTINEL@, 0, 0)
    print('REACHED')
""",
    control=False,
)
reach(
    "forks",
    "processes",
    """
import os
if os.fork() == 0: os._exit(0)
os.wait()
print('REACHED')
""",
)
reach(
    "forks by raw clone",
    "processes",
    """
import ctypes, os, platform
n = 220 if platform.machine() == 'aarch64' else 56
r = ctypes.CDLL(None).syscall(n, 17, 0, 0, 0, 0)
if r == 0: os._exit(0)
if r > 0: print('REACHED')
""",
)
reach(
    "forks by vfork",
    "processes",
    """
import ctypes, os
r = ctypes.CDLL(None).syscall(58)
if r == 0: os._exit(0)
if r > 0: print('REACHED')
""",
    control=False,
)
reach(
    "uses multiprocessing",
    "processes",
    """
import multiprocessing as m
p = m.get_context('fork').Process(target=print)
p.start()
p.join()
print('REACHED')
""",
)
reach(
    "leaves a daemon",
    "processes",
    """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open('@TARGET@', 'w').write('alive')
        os._exit(0)
    os._exit(0)
os.wait()
print('REACHED')
""",
)
reach(
    "becomes root",
    "privileges",
    """
import ctypes, os
before = os.getresuid()
ctypes.CDLL(None).setresuid(0, 0, 0)
if os.getresuid() != before or (os.getuid() == 0 and open('/etc/shadow')): print('REACHED')
""",
    control=False,
)
reach(
    "changes its root",
    "privileges",
    """
import os
os.chroot('/tmp')
print('REACHED')
""",
    control=False,
)
reach(
    "regains privileges by prctl",
    "privileges",
    """
import ctypes
libc = ctypes.CDLL(None)
if any(libc.prctl(*call, 0, 0, 0) == 0 for call in ((38, 0), (22, 0), (4, 1))): print('REACHED')
""",
)
reach(
    "clears the parent-death signal",
    "privileges",
    """
import ctypes
if ctypes.CDLL(None).prctl(1, 0, 0, 0, 0) == 0: print('REACHED')
""",
)
reach(
    "raises its limits",
    "privileges",
    """
import resource
for name in (resource.RLIMIT_AS, resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE, resource.RLIMIT_CPU):
    before = resource.getrlimit(name)
    try: resource.setrlimit(name, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except ValueError: continue
    if resource.getrlimit(name) != before: print('REACHED')
""",
    control=False,
)
