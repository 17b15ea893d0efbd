"""The isolation self-test: attacks of our own, run before any model-written program and every few minutes again.

It plants what must not be reached (a file, listening sockets, this process) and runs a program under all isolation
layers that tries. A single success means that programs are refused.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import tempfile
from contextlib import ExitStack
from pathlib import Path

from sandbox.config import SandboxConfig
from sandbox.errors import IsolationError
from sandbox.programs.fork_server import ProgramForkServer
from sandbox.programs.run import Run

SELF_TEST_SECONDS = 20.0

_PROGRAM = r"""
import ctypes, json, os, signal, socket
plan = json.loads(input())
libc = ctypes.CDLL(None)
tried, leaked = [], []

def attempt(name, action):
    tried.append(name)
    try:
        if action() is not False:
            leaked.append(name)
    except (OSError, MemoryError, RuntimeError):
        pass

def connect(family, address, kind=socket.SOCK_STREAM):
    with socket.socket(family, kind) as made:
        made.connect(address)

def fork():
    if os.fork() == 0:
        os._exit(0)

def write(path):
    # An empty file is a leak already; a limit of its own stops the first byte.
    open(path, "w").close()

attempt("read a planted file", lambda: open(plan["file"]).read())
attempt("list a directory", lambda: os.listdir(plan["directory"]))
attempt("read the pool's environment", lambda: open(f"/proc/{plan['pool']}/environ").read())
attempt("read own environment", lambda: open("/proc/self/environ").read())
attempt("connect by TCP", lambda: connect(socket.AF_INET, ("127.0.0.1", plan["port"])))
attempt("send by UDP", lambda: connect(socket.AF_INET, ("127.0.0.1", plan["port"]), socket.SOCK_DGRAM))
attempt("connect to a unix socket", lambda: connect(socket.AF_UNIX, plan["socket"]))
attempt("connect to an abstract socket", lambda: connect(socket.AF_UNIX, "\0" + plan["abstract"]))
attempt("fork", fork)
attempt("signal the fork server", lambda: os.kill(os.getppid(), 0))
attempt("signal the pool", lambda: os.kill(plan["pool"], 0))
attempt("signal everything", lambda: os.kill(-1, 0))
attempt("create a memory file", lambda: os.memfd_create("self-test"))
attempt("exceed its memory", lambda: bytearray(plan["memory"]))
for name in ("write", "tmp", "shm", "here"):
    attempt("write to " + plan[name], lambda: write(plan[name]))
attempt("remove a file", lambda: os.unlink(plan["file"]))
attempt("raise a limit", lambda: libc.setuid(0) == 0 and os.getuid() != 0)
attempt("use io_uring", lambda: libc.syscall(425, 1, 0) >= 0)
attempt("use a new namespace", lambda: libc.unshare(0x10000000) == 0)
attempt("trace", lambda: libc.ptrace(16, os.getppid(), 0, 0) == 0)
print(json.dumps({"tried": tried, "leaked": leaked}), flush=True)
try:
    # Last, because it leaves nothing of this program: another line of output means that it worked.
    os.execv("/bin/echo", ["echo", "execute"])
except OSError:
    pass
"""


def check(fork_server: ProgramForkServer, config: SandboxConfig) -> None:
    """Run the self-test in a child of `fork_server`. A directory that it may write to is no leak.

    Raises:
        IsolationError: something leaked, or the self-test could not run.
        WorkerDiedError: the fork server is gone.
    """
    with ExitStack() as stack:
        plan = _plant(stack, config)
        if fork_server.directory is not None:
            plan["here"] = f"/{plan['here']}"
        job = {"kind": "stdio", "source": _PROGRAM}
        run = stack.enter_context(Run(fork_server, job, config, json.dumps(plan).encode(), SELF_TEST_SECONDS, True))
        run.wait()
        try:
            lines = run.output(run.stdout_fd).decode().splitlines()
            leaked = [*json.loads(lines[0])["leaked"], *lines[1:]]
        except (ValueError, IndexError, KeyError):
            shown = (run.output(run.stderr_fd) or run.output(run.result_fd))[-300:].decode(errors="replace")
            raise IsolationError(f"the isolation self-test did not finish ({run.killed or 'ended'}): {shown}") from None
    if leaked:
        raise IsolationError(
            f"a locked-down program could {', '.join(leaked)}: refusing to run model-written programs here. "
            "Needed is Linux with seccomp, and Landlock (5.13 or later) for programs that import from disk; "
            "unsafe: true runs them all the same and records it in every verdict"
        )


def _plant(stack: ExitStack, config: SandboxConfig) -> dict[str, object]:
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="leeway-self-test-")))
    directory.chmod(0o755)
    planted = directory / "planted"
    planted.write_text(secrets.token_hex())
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    unix = stack.enter_context(socket.socket(socket.AF_UNIX))
    unix.bind(str(directory / "socket"))
    unix.listen()
    abstract = stack.enter_context(socket.socket(socket.AF_UNIX))
    name = secrets.token_hex(8)
    abstract.bind("\0" + name)
    abstract.listen()
    outside = {
        "tmp": f"/tmp/leeway-self-test-{name}",
        "shm": f"/dev/shm/leeway-self-test-{name}",
        "here": f"leeway-self-test-{name}",
    }
    for path in outside.values():
        # What a leak lets through must not stay behind; children start in the root directory.
        stack.callback(Path("/", path).unlink, missing_ok=True)
    return {
        "file": str(planted),
        "directory": str(directory),
        "port": listener.getsockname()[1],
        "socket": str(directory / "socket"),
        "abstract": name,
        "pool": os.getpid(),
        "memory": 2 * config.memory_bytes,
        "write": str(directory / "written"),
        **outside,
    }
