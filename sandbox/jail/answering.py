"""The program's end of the conversation: answers what the tests ask, and asks back where they gave it objects."""

from __future__ import annotations

import builtins
import enum
import io
import sys
from typing import Any

from sandbox.jail import describing, handles
from sandbox.jail.describing import EXCEPTIONS, SPECIALS
from sandbox.jail.operations import Operations
from sandbox.jail.peers import MAX_LINE, Peer
from sandbox.jail.program import entry, given_names, report
from sandbox.jail.serialization import Serializer
from sandbox.jail.values import ValueEncodingError

MAX_PRINTED = 1 << 20


def serve(job: dict[str, Any], namespace: dict[str, Any]) -> int:
    """Answer requests, one line in, one line out, until there are no more."""
    printed = io.BytesIO()
    peer = ProgramPeer(namespace, printed)
    sys.stdin = io.StringIO()
    sys.stdout = io.TextIOWrapper(printed, encoding="utf-8", errors="replace", write_through=True)
    peer.entry = entry(job, namespace)
    # From here on there is somebody to ask.
    sys.stdin, builtins.input = _Input(), _input
    report({"ready": True})
    while True:
        try:
            message = peer.receive()
        except EOFError:
            return 0
        peer.send(peer.answer(message.get("call")))


class _ProgramOperations(Operations):
    def __init__(self, peer: ProgramPeer, namespace: dict[str, Any]) -> None:
        super().__init__()
        self._peer, self._namespace = peer, namespace
        self._loop: Any = None

    def run(self, awaitable: Any) -> Any:
        """What an awaitable comes to, in one event loop for all of them."""
        import asyncio

        async def waiting() -> Any:
            return await awaitable

        self._loop = self._loop or asyncio.new_event_loop()
        running = asyncio._get_running_loop()
        asyncio._set_running_loop(None)
        try:
            return self._loop.run_until_complete(waiting())
        finally:
            asyncio._set_running_loop(running)

    def names(self, wanted: Any) -> dict[str, Any]:
        """See `Operations`; "" is the function under test, and "*" all names."""
        self._peer.shared_classes.update(name[6:] for name in wanted if name[:6] == "class ")
        own = {key: value for key, value in self._namespace.items() if key[:2] != "__" and not _is_given(key, value)}
        found = {name: own[name] for name in wanted if name in own}
        if "" in wanted:
            found[""] = self._peer.entry
        if "*" in wanted:
            found["*"] = sorted(own)
        return {name: value for name, value in found.items() if self._peer.can_send(value)}


class _Input(io.TextIOBase):
    """Standard input, which is that of the tests: they may have put there what the program is to read."""

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> str:
        return str(handles.peer().ask("input", "read", None, -1 if size is None else size))

    def readline(self, size: int | None = -1) -> str:  # type: ignore[override]
        return str(handles.peer().ask("input", "readline", None, -1 if size is None else size))


def _input(prompt: object = "") -> str:
    return str(handles.peer().ask("input", "input", None, str(prompt)))


def _is_given(name: str, value: Any) -> bool:
    return name in given_names and getattr(value, "__module__", "") != "program"


class Held:
    """An instance of a class of the tests: its attributes are here, its methods there."""

    def __getattr__(self, name: str) -> Any:
        if name[:2] == "__":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return handles.peer().ask("get", name, self)


class ProgramPeer(Peer):
    """The program's end."""

    def __init__(self, namespace: dict[str, Any], printed: io.BytesIO) -> None:
        super().__init__(_ProgramOperations(self, namespace))
        self.entry: Any = None
        self._namespace, self._printed = namespace, printed
        self._held: dict[int, type] = {}
        self.shared_classes: set[str] = set()
        self._own: dict[int, tuple[BaseException, int]] = {}

    def can_send(self, value: Any) -> bool:
        """Whether a value can cross."""
        try:
            Serializer(self).encode(value)
        except (ValueEncodingError, RecursionError):
            return False
        return True

    def send(self, message: dict[str, Any]) -> None:
        """Send a message with what was printed before it."""
        if not self._printed.closed and (text := self._printed.getvalue()):
            message["printed"] = text[:MAX_PRINTED].decode("utf-8", "replace")
            self._printed.seek(0)
            self._printed.truncate()
        super().send(message)

    def function(self, handle: Any, name: str, doc: Any, parameters: Any, is_async: bool) -> Any:
        """A real function: programs look at what they are given."""
        handle = super().function(handle, name, doc, parameters, is_async)
        names = [one[0] for one in parameters or () if one[1:] == (1, False)]

        async def waited(*args: Any, **keywords: Any) -> Any:
            return await handle(*args, **keywords)

        def called(*args: Any, **keywords: Any) -> Any:
            return handle(*args, **keywords)

        made: Any = waited if is_async else called
        if not is_async and parameters is not None and len(names) == len(parameters):
            # With as many parameters as the other, for those who count them.
            listed = ", ".join(names)
            made = eval(f"lambda {listed}: _({listed})", {"_": handle})
        made.__name__ = made.__qualname__ = handle.__name__
        made.__doc__ = handle.__doc__
        if parameters is not None:
            made.__signature__ = handle.__signature__
        return made

    def held(self, value: Any) -> Any:
        """See `serialization.References`: objects of classes that the tests define, too."""
        kind = type(value)
        shared = kind.__name__ in self.shared_classes and self._namespace.get(kind.__name__) is kind
        others = (BaseException, enum.Enum, *describing.VALUES, *describing.CONTAINERS)
        if not shared or not hasattr(value, "__dict__") or isinstance(value, others):
            return None
        return self.given.number(value), self.given.class_number(kind)

    def revive(self, held: Any) -> Any:
        """See `serialization.References`: of the program's class of that name, if it has one."""
        number, class_number = held
        kind = self._classes[class_number]
        if number in self.got:
            vars(self.got[number]).clear()
            return self.got[number]
        own: Any = self._namespace.get(kind.__name__)
        is_own = isinstance(own, type) and own.__module__ == "program"
        if not is_own:
            body = {name: part for name, part in vars(kind).items() if name in SPECIALS}
            own = self._held.setdefault(class_number, type(kind.__name__, (Held,), body))
        try:
            made = object.__new__(own)
            vars(made)
        except TypeError:
            raise ValueEncodingError("an instance that cannot be made here") from None
        self.got[number] = made
        if not is_own:
            # Its methods are called there; one of the program's own class is the program's from now on.
            self._got_numbers[id(made)] = number
        return made

    def exception(self, message: dict[str, Any]) -> BaseException:
        """An exception of a call back, as far as the program can know it."""
        args = self.arguments(message)
        kind: Any = None
        for name in message["raised"]:
            kind = self._namespace.get(name, EXCEPTIONS.get(name))
            if isinstance(kind, type) and issubclass(kind, Exception):
                break
        else:
            kind = type(message["raised"][0], (Exception,), {})
        try:
            error: BaseException = kind(*args)
        except TypeError:
            error = Exception(*args)
        self._own[id(error)] = error, message["own"]
        return error

    def raised(self, error: BaseException) -> dict[str, Any]:
        """See `Peer`; with the number of the exception of a call back that passes through the program."""
        reply = super().raised(error)
        if id(error) in self._own:
            reply["own"] = self._own[id(error)][1]
        elif isinstance(error, Exception) and type(error).__module__ == "program":
            try:
                reply["object"] = Serializer(self).encode(error)
            except (ValueEncodingError, RecursionError):
                return reply
        return reply


__all__ = ["MAX_LINE", "MAX_PRINTED", "serve"]
