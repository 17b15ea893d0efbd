"""What the attacks must not reach, read, change or end: planted targets and what became of them."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path


class World:
    """Planted targets. Every token is random, so only reading the right thing prints it."""

    def __init__(self, directory: Path, stack: contextlib.ExitStack) -> None:
        self.directory = directory
        self.token = f"token-{secrets.token_hex(16)}"
        self.number = secrets.randbelow(10**9) + 10**9
        self.file = directory / "planted.txt"
        self.file.write_text(self.token)
        self.file.chmod(0o666)
        self.target = directory / "target"
        self.tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self.udp.bind(("127.0.0.1", 0))
        self.unix = stack.enter_context(socket.socket(socket.AF_UNIX))
        self.unix.bind(str(directory / "docker.sock"))
        (directory / "docker.sock").chmod(0o777)
        self.unix.listen(16)
        self.abstract_name = f"ray-{secrets.token_hex(8)}"
        self.abstract = stack.enter_context(socket.socket(socket.AF_UNIX))
        self.abstract.bind("\0" + self.abstract_name)
        self.abstract.listen(16)
        for listener in (self.tcp, self.udp, self.unix, self.abstract):
            listener.setblocking(False)
        self.sentinel = stack.enter_context(
            subprocess.Popen(["sleep", "600"], env={"PATH": os.defpath, "T": self.token})
        )
        stack.callback(self.sentinel.kill)

    def fill(self, text: str) -> str:
        """`text` with its placeholders filled in."""
        for name, value in {
            "@FILE@": self.file,
            "@DIR@": self.directory,
            "@TARGET@": self.target,
            "@TCP@": self.tcp.getsockname()[1],
            "@UDP@": self.udp.getsockname()[1],
            "@UNIX@": self.directory / "docker.sock",
            "@ABSTRACT@": self.abstract_name,
            "@SENTINEL@": self.sentinel.pid,
            "@POOL@": os.getpid(),
            "@TOKEN@": self.token,
            "@NUMBER@": self.number,
        }.items():
            text = text.replace(name, str(value))
        return text

    def damage(self) -> list[str]:
        """What an attack changed or reached since the last call; cleaned up for the next."""
        found = []
        if not self.file.exists() or self.file.read_text() != self.token or self.file.stat().st_mode & 0o777 != 0o666:
            found.append("the planted file was changed")
            self.file.unlink(missing_ok=True)
            self.file.write_text(self.token)
            self.file.chmod(0o666)
        expected = {"planted.txt", "docker.sock"}
        for path in [path for path in self.directory.iterdir() if path.name not in expected]:
            found.append(f"{path.name} was created")
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        for name, listener in (("TCP", self.tcp), ("unix", self.unix), ("abstract", self.abstract)):
            with contextlib.suppress(BlockingIOError):
                listener.accept()[0].close()
                found.append(f"a {name} connection arrived")
        with contextlib.suppress(BlockingIOError):
            self.udp.recv(100)
            found.append("a datagram arrived")
        if self.sentinel.poll() is not None:
            found.append("the sentinel process was ended")
        return found


@contextlib.contextmanager
def planted() -> Iterator[World]:
    """A world for as long as the block runs."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="attacked-")))
        directory.chmod(0o777)
        yield World(directory, stack)
