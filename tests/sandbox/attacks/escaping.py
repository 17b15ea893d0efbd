"""Attacks that try to reach what is outside: files, processes, sockets, the kernel's odder corners, later runs."""

from __future__ import annotations

from cases import attack, call, reach

attack("reads a planted file", "files", "stdio", "print(open('@FILE@').read())\n")
attack(
    "reads it by os.open", "files", "stdio", "import os\nprint(os.read(os.open('@FILE@', os.O_RDONLY), 100).decode())\n"
)
attack(
    "reads it by relative path",
    "files",
    "stdio",
    "import os\nprint(open(os.path.relpath('@FILE@', os.getcwd() or '/')).read())\n",
)
attack("reads it through /proc/self/root", "files", "stdio", "print(open('/proc/self/root@FILE@').read())\n")
attack("reads it through io_open_code", "files", "stdio", "import io\nprint(io.open_code('@FILE@').read().decode())\n")
attack("reads it through linecache", "files", "stdio", "import linecache\nprint(linecache.getline('@FILE@', 1))\n")
attack("reads it by importing", "files", "stdio", "import importlib.util\ns = importlib.util.spec_from_file_location('m', '@FILE@', loader=importlib.machinery.SourceFileLoader('m', '@FILE@'))\nprint(s.loader.get_data('@FILE@').decode())\n")  # fmt: skip
attack(
    "reads it by mmap",
    "files",
    "stdio",
    "import mmap\nf = open('@FILE@', 'r+b')\nprint(mmap.mmap(f.fileno(), 0)[:].decode())\n",
)
attack("reads it by openat2", "files", "stdio", "import ctypes, os, struct\nlibc = ctypes.CDLL(None)\nfd = libc.syscall(437, -100, b'@FILE@', struct.pack('QQQ', 0, 0, 0), 24)\nprint(os.read(fd, 100).decode())\n")  # fmt: skip
attack("reads it in a thread", "files", "stdio", "import threading\nt = threading.Thread(target=lambda: print(open('@FILE@').read()))\nt.start()\nt.join()\n")  # fmt: skip
attack("reads it by shell", "shells", "stdio", "import subprocess\nprint(subprocess.run(['cat', '@FILE@'], capture_output=True, text=True).stdout)\n")  # fmt: skip
attack("reads it by os.system", "shells", "stdio", "import os\nos.system('cat @FILE@')\n")
attack("reads it by os.popen", "shells", "stdio", "import os\nprint(os.popen('cat @FILE@').read())\n")
attack(
    "reads it by posix_spawn",
    "shells",
    "stdio",
    "import os\nos.waitpid(os.posix_spawn('/bin/cat', ['cat', '@FILE@'], {}), 0)\n",
)
attack("reads it by libc.system", "shells", "stdio", "import ctypes\nctypes.CDLL(None).system(b'cat @FILE@')\n")
attack("reads it by execveat", "shells", "stdio", "import ctypes, platform\na = (ctypes.c_char_p * 3)(b'cat', b'@FILE@', None)\nn = 281 if platform.machine() == 'aarch64' else 322\nctypes.CDLL(None).syscall(n, -100, b'/bin/cat', a, None, 0)\n")  # fmt: skip
attack("reads another process's environment", "/proc", "stdio", "import re\nprint(re.search('token-[0-9a-f]{32}', open('/proc/@SENTINEL@/environ').read())[0])\n")  # fmt: skip
attack("reads another process's memory", "/proc", "stdio", "import re\nfor line in open('/proc/@SENTINEL@/maps'):\n    if '[stack]' in line:\n        a, b = (int(v, 16) for v in line.split()[0].split('-'))\n        f = open('/proc/@SENTINEL@/mem', 'rb')\n        f.seek(a)\n        print(re.search(rb'token-[0-9a-f]{32}', f.read(b - a))[0].decode())\n")  # fmt: skip
reach("reads the pool's environment", "/proc", "open('/proc/@POOL@/environ').read()\nprint('REACHED')\n")
reach("lists the processes", "/proc", "import os\nos.listdir('/proc')\nprint('REACHED')\n")
reach("reads its own maps", "/proc", "open('/proc/self/maps').read()\nprint('REACHED')\n")
reach("lists the planted directory", "files", "import os\nif os.listdir('@DIR@'): print('REACHED')\n")
reach("lists the root", "files", "import os\nif os.listdir('/'): print('REACHED')\n")
reach("reads the user database", "files", "open('/etc/passwd').read()\nprint('REACHED')\n")
reach("reads the service-account token's place", "files", "import os\nos.listdir('/var')\nprint('REACHED')\n")
reach("finds an environment of ours", "leaks", "import os\nif set(os.environ) - {'PATH', 'LANG', 'HOME', 'LC_CTYPE', 'OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS'}: print('REACHED')\n")  # fmt: skip
reach("finds an inherited descriptor", "leaks", "import os\nfor fd in [3, *range(5, 1024)]:\n    try:\n        os.fstat(fd)\n        print('REACHED')\n        break\n    except OSError: pass\n", control=False)  # fmt: skip

reach("writes a file", "tampering", "open('@TARGET@', 'w').write('x')\nprint('REACHED')\n")
reach("overwrites a file", "tampering", "open('@FILE@', 'w').write('x')\nprint('REACHED')\n")
reach("appends to a file", "tampering", "open('@FILE@', 'a').write('x')\nprint('REACHED')\n")
reach("truncates a file by path", "tampering", "import os\nos.truncate('@FILE@', 1)\nprint('REACHED')\n")
reach("removes a file", "tampering", "import os\nos.unlink('@FILE@')\nprint('REACHED')\n")
reach("renames a file", "tampering", "import os\nos.rename('@FILE@', '@TARGET@')\nprint('REACHED')\n")
reach("changes a file's mode", "tampering", "import os\nos.chmod('@FILE@', 0)\nprint('REACHED')\n")
reach("changes a file's times", "tampering", "import os\nos.utime('@FILE@', (0, 0))\nprint('REACHED')\n")
reach("makes a directory", "tampering", "import os\nos.mkdir('@TARGET@')\nprint('REACHED')\n")
reach("makes a symbolic link", "tampering", "import os\nos.symlink('@FILE@', '@TARGET@')\nprint('REACHED')\n")
reach("makes a hard link", "tampering", "import os\nos.link('@FILE@', '@TARGET@')\nprint('REACHED')\n")
reach("makes a fifo", "tampering", "import os\nos.mkfifo('@TARGET@')\nprint('REACHED')\n")
reach(
    "makes a unix socket",
    "tampering",
    "import socket\nsocket.socket(socket.AF_UNIX).bind('@TARGET@')\nprint('REACHED')\n",
)
reach("writes to /tmp", "tampering", "import tempfile\ntempfile.NamedTemporaryFile().write(b'x')\nprint('REACHED')\n")
reach("writes to shared memory", "tampering", "open('/dev/shm/attack-@POOL@', 'w').write('x')\nimport os\nos.unlink('/dev/shm/attack-@POOL@')\nprint('REACHED')\n")  # fmt: skip
reach(
    "writes bytecode caches",
    "tampering",
    "import os, py_compile\npy_compile.compile(os.__file__, cfile='@TARGET@')\nprint('REACHED')\n",
)

reach("connects by TCP", "network", "import socket\nsocket.create_connection(('127.0.0.1', @TCP@))\nprint('REACHED')\n")
reach("sends a datagram", "network", "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', @UDP@))\nprint('REACHED')\n")  # fmt: skip
reach(
    "connects to a docker socket",
    "network",
    "import socket\nsocket.socket(socket.AF_UNIX).connect('@UNIX@')\nprint('REACHED')\n",
)
reach(
    "connects to an abstract socket",
    "network",
    "import socket\nsocket.socket(socket.AF_UNIX).connect('\\0@ABSTRACT@')\nprint('REACHED')\n",
)
reach("listens", "network", "import socket\nsocket.create_server(('127.0.0.1', 0))\nprint('REACHED')\n")
reach("opens a socket pair", "network", "import socket\nsocket.socketpair()\nprint('REACHED')\n")
reach(
    "opens a netlink socket",
    "network",
    "import socket\nsocket.socket(socket.AF_NETLINK, socket.SOCK_RAW)\nprint('REACHED')\n",
)

reach("ends another process", "signals", "import os\nos.kill(@SENTINEL@, 9)\nprint('REACHED')\n")
reach("probes the pool", "signals", "import os\nos.kill(@POOL@, 0)\nprint('REACHED')\n", control=True)
reach("signals its parent", "signals", "import os\nos.kill(os.getppid(), 0)\nprint('REACHED')\n")
reach(
    "signals its group",
    "signals",
    "import os, signal\nsignal.signal(10, signal.SIG_IGN)\nos.kill(0, 0)\nprint('REACHED')\n",
)
reach("opens a pidfd", "signals", "import os\nos.pidfd_open(@SENTINEL@)\nprint('REACHED')\n")
reach("queues a signal", "signals", "import ctypes, platform\nb = ctypes.create_string_buffer(128)\nn = 138 if platform.machine() == 'aarch64' else 129\nif ctypes.CDLL(None).syscall(n, @SENTINEL@, 0, b) == 0: print('REACHED')\nelse: raise OSError\n", control=False)  # fmt: skip
reach("ends itself as if from outside", "signals", "import os\nos.kill(os.getpid(), 9)\n", control=False)
reach(
    "limits another process",
    "signals",
    "import resource\nresource.prlimit(@SENTINEL@, resource.RLIMIT_NOFILE)\nprint('REACHED')\n",
)
reach("renices", "signals", "import os\nos.nice(-5)\nprint('REACHED')\n", control=False)
reach("traces another process", "signals", "import ctypes\nif ctypes.CDLL(None).ptrace(16, @SENTINEL@, 0, 0) == 0:\n    ctypes.CDLL(None).ptrace(17, @SENTINEL@, 0, 0)\n    print('REACHED')\n", control=False)  # fmt: skip
reach("forks", "processes", "import os\nif os.fork() == 0: os._exit(0)\nos.wait()\nprint('REACHED')\n")
reach("forks by raw clone", "processes", "import ctypes, os, platform\nn = 220 if platform.machine() == 'aarch64' else 56\nr = ctypes.CDLL(None).syscall(n, 17, 0, 0, 0, 0)\nif r == 0: os._exit(0)\nif r > 0: print('REACHED')\n")  # fmt: skip
reach(
    "forks by vfork",
    "processes",
    "import ctypes, os\nr = ctypes.CDLL(None).syscall(58)\nif r == 0: os._exit(0)\nif r > 0: print('REACHED')\n",
    control=False,
)
reach("uses multiprocessing", "processes", "import multiprocessing as m\np = m.get_context('fork').Process(target=print)\np.start()\np.join()\nprint('REACHED')\n")  # fmt: skip
reach("leaves a daemon", "processes", "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        open('@TARGET@', 'w').write('alive')\n        os._exit(0)\n    os._exit(0)\nos.wait()\nprint('REACHED')\n")  # fmt: skip
reach("becomes root", "privileges", "import ctypes, os\nbefore = os.getresuid()\nctypes.CDLL(None).setresuid(0, 0, 0)\nif os.getresuid() != before or (os.getuid() == 0 and open('/etc/shadow')): print('REACHED')\n", control=False)  # fmt: skip
reach("changes its root", "privileges", "import os\nos.chroot('/tmp')\nprint('REACHED')\n", control=False)
reach("regains privileges by prctl", "privileges", "import ctypes\nlibc = ctypes.CDLL(None)\nif libc.prctl(38, 0, 0, 0, 0) == 0 or libc.prctl(22, 0, 0, 0, 0) == 0 or libc.prctl(4, 1, 0, 0, 0) == 0: print('REACHED')\n")  # fmt: skip
reach(
    "clears the parent-death signal",
    "privileges",
    "import ctypes\nif ctypes.CDLL(None).prctl(1, 0, 0, 0, 0) == 0: print('REACHED')\n",
)
reach("raises its limits", "privileges", "import resource\nfor name in (resource.RLIMIT_AS, resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE, resource.RLIMIT_CPU):\n    before = resource.getrlimit(name)\n    try: resource.setrlimit(name, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n    except ValueError: continue\n    if resource.getrlimit(name) != before: print('REACHED')\n", control=False)  # fmt: skip

call("io_uring_setup", "425, (8, b'\\0' * 200)")
call("userfaultfd", "(323, 282), (0,)")
call("memfd_create", "(319, 279), (b'x', 0)", control=True)
call("memfd_secret", "447, (0,)")
call("shmget", "(29, 194), (0, 4096, 0o1600)", control=True)
call("mq_open", "(240, 180), (b'x', 0o100, 0o600, 0)")
call("keyctl", "(250, 219), (0, -3, 1)")
call("add_key", "(248, 217), (b'user', b'x', b'y', 1, -1)")
call("bpf", "(321, 280), (0, b'\\0' * 128, 128)")
call("perf_event_open", "(298, 241), (b'\\0' * 128, 0, -1, -1, 0)")
call("unshare a user namespace", "(272, 97), (0x10000000,)")
call("setns", "(308, 268), (0, 0)")
call("clone3", "435, (b'\\0' * 88, 88)")
call("mount", "(165, 40), (b'none', b'/tmp', b'tmpfs', 0, 0)")
call("inotify_init1", "(294, 26), (0,)", control=True)
call("eventfd2", "(290, 19), (0, 0)", control=True)
call("epoll_create1", "(291, 20), (0,)", control=True)
call("signalfd4", "(289, 74), (-1, b'\\0' * 8, 8, 0)", control=True)
call(
    "timer_create with SIGKILL",
    "(222, 107), (0, b'\\0' * 8 + b'\\x09\\0\\0\\0' + b'\\0' * 52, b'\\0' * 8)",
    control=True,
)
call("process_vm_readv", "(310, 270), (@SENTINEL@, 0, 0, 0, 0, 0)", control=True)
call(
    "name_to_handle_at",
    "(303, 264), (-100, b'/etc/passwd', b'\\x80\\0\\0\\0' + b'\\0' * 200, b'\\0' * 8, 0)",
    control=True,
)
call("seccomp", "(317, 277), (0, 0, 0)")
call("landlock_create_ruleset", "444, (0, 0, 1)", control=True)
call("personality", "(135, 92), (0x0040000,)", control=True)
call("swapoff", "(168, 225), (b'/x',)")
call("x32 getpid", "(0x40000027, 172 + 100000), ()")
call("statfs", "(137, 43), (b'/', b'\\0' * 200)", control=True)
call("setpriority", "(141, 140), (0, 0, 10)", control=True)
call("sched_setaffinity", "(203, 122), (0, 8, b'\\x01' + b'\\0' * 7)", control=True)
call("mlock", "(149, 228), (0, 0)", control=True)
call("fallocate on stdin", "(285, 47), (0, 0, 0, 4096)")
