"""What programs expect of an interpreter and the lockdown takes away: standard streams by path, event loops, locales.

Everything here is convenience of programs: it runs in their own process and gives them nothing that they could not do.
"""

from __future__ import annotations

import builtins
import importlib.machinery
import io
import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

_NAMES = ("stdin", "stdout", "stderr")
#: Descriptors by the paths that usually lead to them.
STREAMS = {
    path: fd for fd, name in enumerate(_NAMES) for path in (f"/dev/{name}", f"/dev/fd/{fd}", f"/proc/self/fd/{fd}")
}
_ASYNCIO = "asyncio.selector_events"


def prepare() -> None:
    """Change this interpreter, once, before any fork."""
    builtins.open = io.open = _open_by_path(io.open)
    os.open = _os_open_by_path(os.open)
    if _ASYNCIO in sys.modules:
        _without_sockets(sys.modules[_ASYNCIO])
    else:
        sys.meta_path.insert(0, _Finder)


def _open_by_path(usual: Callable[..., Any]) -> Callable[..., Any]:
    """`open`, which gets a descriptor for the path of a standard stream."""

    def opened(file: Any, *args: Any, **keywords: Any) -> Any:
        fd = _stream(file)
        return usual(file if fd is None else os.dup(fd), *args, **keywords)

    return _named_like(usual, opened)


def _os_open_by_path(usual: Callable[..., int]) -> Callable[..., int]:
    """`os.open`, for which a standard stream is open already."""

    def opened(path: Any, *args: Any, **keywords: Any) -> int:
        fd = _stream(path)
        return usual(path, *args, **keywords) if fd is None else os.dup(fd)

    return _named_like(usual, opened)


def _stream(file: Any) -> int | None:
    if type(file) is str:
        return STREAMS.get(file)
    # Only a program that has imported it has a path, and importing it takes pages.
    pathlib = sys.modules.get("pathlib")
    return STREAMS.get(os.fspath(file)) if pathlib is not None and isinstance(file, pathlib.PurePath) else None


def _named_like(usual: Callable[..., Any], made: Callable[..., Any]) -> Callable[..., Any]:
    made.__name__ = made.__qualname__ = usual.__name__
    made.__module__, made.__doc__ = usual.__module__, usual.__doc__
    return made


class _Finder:
    """Finds the event loop as others do, and changes it once it is there. Few programs import it, and it takes long."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: Any = None) -> Any:
        """See `importlib.abc.MetaPathFinder`."""
        if name != _ASYNCIO:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        loader: Any = spec.loader if spec is not None else None
        if loader is not None:
            execute = loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                _without_sockets(module)

            loader.exec_module = exec_module
        return spec


class _PipeEnd:
    """One end of a pipe, with the methods of a socket that an event loop wakes itself with."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd

    def recv(self, size: int) -> bytes:
        return os.read(self._fd, size)

    def send(self, data: bytes) -> int:
        return os.write(self._fd, data)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


def _without_sockets(module: Any) -> None:
    """Let event loops wake themselves by a pipe, and wait by `poll`."""
    import selectors

    def make_self_pipe(self: Any) -> None:
        self._ssock, self._csock = map(_PipeEnd, os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC))
        self._internal_fds += 1
        self._add_reader(self._ssock.fileno(), self._read_from_self)

    module.BaseSelectorEventLoop._make_self_pipe = make_self_pipe
    selectors.DefaultSelector = selectors.PollSelector  # type: ignore[assignment, misc]
