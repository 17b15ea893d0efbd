"""One end of the conversation between the tests and the program: asks, answers, and keeps what was given and got.

Each end takes turns: who has sent a request or a reply waits for the other's line, and a request may be answered by
another one. A request is `{"call": (operation, name, target, args, keywords)}`, a reply one of

    {"value": (result, changes)}     changes of the arguments, by their numbers
    {"raised": names, "args"}        an exception by the names of its classes, and the `module` of the first; `object`:
                                     itself, if its class is the program's; `own`: the exception of a call back that
                                     it was in the first place

Beside it stand `classes`, described by `sandbox.jail.describing`, and the text that was `printed`. Trees of
`sandbox.jail.serialization` refer to objects of the sender by ["O", number, class, value] and ["Y", number] for
classes, to objects of the receiver by ["R", number], to what both have by ["B", name], and to exceptions that both
have by ["E", name, args].
"""

from __future__ import annotations

import contextlib
import io
import json
import threading
from collections.abc import Callable
from typing import Any

from sandbox.jail import handles, serialization
from sandbox.jail.describing import EXCEPTIONS, SHARED, callable_parts, describe, shape_of, shared_name, signature
from sandbox.jail.handles import FunctionHandle
from sandbox.jail.operations import OPERATIONS, ObjectRequest, Operations
from sandbox.jail.program import report
from sandbox.jail.serialization import Serializer
from sandbox.jail.values import MAX_DEPTH, ValueEncodingError, builtin_base

MAX_LINE = 16 * 1024 * 1024
MAX_OBJECTS = 50_000
MAX_CALLS_WITHIN = 400
_MAX_MESSAGE = 300
_MAX_BASES = 12


class Given:
    """What this process has given to the other: objects and classes, by number."""

    def __init__(self) -> None:
        self.objects: list[Any] = []
        self.news: list[Any] = []
        self._numbers: dict[int, int] = {}

    def number(self, value: Any) -> int:
        """The number of an object; a new one if it has none.

        Raises:
            ValueEncodingError: too many objects were given.
        """
        number = self._numbers.get(id(value))
        if number is None:
            if len(self.objects) >= MAX_OBJECTS:
                raise ValueEncodingError("too many objects of the program are in use")
            number = self._numbers[id(value)] = len(self.objects)
            # Kept, so that no other object can get its identity.
            self.objects.append(value)
        return number

    def class_number(self, kind: type) -> int:
        """The number of a class, which is described to the other process when the next message is sent."""
        known = id(kind) in self._numbers
        number = self.number(kind)
        if not known:
            self.news.append(describe(kind, number, self.class_number))
        return number

    def has(self, value: Any) -> bool:
        """Whether an object was given."""
        return id(value) in self._numbers

    def object(self, number: Any) -> Any:
        """The object of a number.

        Raises:
            ValueEncodingError: there is none.
        """
        if type(number) is not int or not 0 <= number < len(self.objects):
            raise ValueEncodingError("reference to nothing")
        return self.objects[number]


class Peer:
    """One end.

    Args:
        operations: what the other may ask for.

    Attributes:
        calls: how often the other was called.
        got: handles of the other's objects by their number.
    """

    def __init__(self, operations: Operations) -> None:
        self.given = Given()
        self.got: dict[int, Any] = {}
        self.calls = 0
        self._classes: dict[int, type] = {}
        self._shapes: dict[int, tuple[str, str]] = {}
        self._got_numbers: dict[int, int] = {}
        self._kept: list[Any] = []
        self._operations = operations
        self._within = 0
        self._turn = threading.RLock()
        self._lines = io.BufferedReader(io.FileIO(0, "r", closefd=False))
        handles.converse(self)

    # Asking

    def ask(self, operation: str, name: str, target: Any, *args: Any) -> Any:
        """See `handles.Asking`."""
        return self.request(operation, name, target, args, {})

    def request(
        self, operation: str, name: str, target: Any, args: Any, keywords: Any, finish: Callable[..., Any] | None = None
    ) -> Any:
        """Send a request, answer what is asked in between, and take its reply.

        Args:
            operation, name, target, args, keywords: see `sandbox.jail.operations`.
            finish: takes serializer, result and changes in place of `apply`.

        Raises:
            UnsupportedError: an argument cannot cross.
            EOFError: the other process has ended.
            Exception: what the other process raised.
        """
        serializer = Serializer(self)
        # Threads take turns: a reply has no name on it.
        with self._turn:
            try:
                line = serializer.encode((operation, name, target, args, keywords))
            except ValueEncodingError as error:
                raise self.cannot_send(error) from None
            serializer.sent = list(serializer.objects)
            self.send({"call": line})
            while "call" in (message := self.receive()):
                self.send(self.answer(message["call"]))
        if "value" not in message:
            raise self.exception(message)
        answer = serializer.decode(message["value"])
        if type(answer) is not tuple or len(answer) != 2:
            raise ValueEncodingError("malformed reply")
        if finish is not None:
            return finish(serializer, message["value"], *answer)
        serialization.apply(serializer, answer[1])
        return answer[0]

    def cannot_send(self, error: ValueEncodingError) -> BaseException:
        """What to raise where an argument cannot cross."""
        return error

    def call(self, target: Any, name: str, args: Any, keywords: Any, _: Any) -> Any:
        """See `handles.Asking`."""
        self.calls += 1
        return self.request("method" if name else "call", name, target, args, keywords)

    def operate(self, name: str, left: Any, right: Any) -> Any:
        """See `handles.Asking`."""
        return self.ask("special", name, left, right)

    def special(self, name: str, target: Any, args: Any) -> Any:
        """See `handles.Asking`."""
        return self.ask("special", name, target, *args)

    def is_tested(self, _: Any) -> bool:
        """See `handles.Asking`."""
        return True

    def exception(self, message: dict[str, Any]) -> BaseException:
        """The exception of a reply."""
        raise NotImplementedError

    # Answering

    def answer(self, text: Any) -> dict[str, Any]:
        """The reply to a request."""
        serializer = Serializer(self)
        self._within += 1
        try:
            if self._within > MAX_CALLS_WITHIN:
                raise RecursionError("too many calls within calls")
            request = self._request(serializer.decode(text))
            before = serialization.snapshots(serializer)
            result = OPERATIONS[request.operation](self._operations, request)
            return {"value": serializer.encode((result, serialization.changes(serializer, before)))}
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the other side may expect any exception
            return self.raised(error)
        finally:
            self._within -= 1

    def _request(self, parts: Any) -> ObjectRequest:
        if type(parts) is not tuple or len(parts) != 5 or type(parts[0]) is not str or parts[0] not in OPERATIONS:
            raise ValueEncodingError("malformed request")
        request = ObjectRequest(*parts)
        types = [type(part) for part in (request.name, request.args, request.keywords)]
        if types != [str, tuple, dict] or not all(type(name) is str for name in request.keywords):
            raise ValueEncodingError("malformed request")
        self._operations.check(request)
        return request

    def raised(self, error: BaseException) -> dict[str, Any]:
        """The reply that reports an exception."""
        names = [kind.__name__ for kind in type(error).__mro__[:_MAX_BASES]]
        reply: dict[str, Any] = {"raised": names, "args": _text_of(error), "module": type(error).__module__}
        with contextlib.suppress(ValueEncodingError, RecursionError):
            reply["args"] = Serializer(self).encode(error.args)
        return reply

    def send(self, message: dict[str, Any]) -> None:
        """Send a message with the classes that it mentions first."""
        report(message | self.news())

    def news(self) -> dict[str, Any]:
        """The classes to describe with the next message, if there are any."""
        if not self.given.news:
            return {}
        described, self.given.news = Serializer().encode(self.given.news), []
        return {"classes": described}

    def receive(self) -> dict[str, Any]:
        """The other's next message.

        Raises:
            EOFError: there is none.
        """
        line = self._lines.readline(MAX_LINE)
        if not line:
            raise EOFError("the other process has ended")
        message: dict[str, Any] = json.loads(line)
        self.take_in(message)
        return message

    def take_in(self, message: dict[str, Any]) -> None:
        """Learn the classes that a message describes."""
        if "classes" in message:
            for description in Serializer().decode(message["classes"]):
                number, kind, *shape = handles.type_of(description, self._classes)
                self._classes[number] = kind
                self._shapes[id(kind)] = (shape[0], shape[1])
                self.got[number] = kind
                self._got_numbers[id(kind)] = number

    def arguments(self, message: dict[str, Any]) -> tuple[Any, ...]:
        """The arguments of the exception of a reply."""
        args = Serializer(self).decode(message["args"])
        return args if type(args) is tuple else (args,)

    # References

    def number_of(self, value: Any) -> int | None:
        """The number of the other's object that a value stands for, or None."""
        return self._got_numbers.get(id(value))

    def container_of(self, value: Any) -> str:
        """The name of the builtin container that the class of a handle extends, or ""."""
        return self._shapes.get(id(type(value)), ("", ""))[1]

    def held(self, _: Any) -> Any:
        """See `serialization.References`."""
        return None

    def revive(self, held: Any) -> Any:
        """See `serialization.References`."""
        raise ValueEncodingError(f"an instance that cannot be made here: {held}")

    def accept(self, instance: Any, attributes: dict[str, Any]) -> None:
        """See `serialization.References`."""

    def export(self, value: Any, kind: type, serializer: Serializer) -> Any:
        """See `serialization.References`."""
        number = self.number_of(value)
        if number is not None:
            return ["R", number]
        name = shared_name(value)
        if name is not None:
            return ["B", name]
        if isinstance(value, type):
            self._operations.may_give(value)
            return ["Y", self.given.class_number(value)]
        if EXCEPTIONS.get(kind.__name__) is kind:
            return ["E", kind.__name__, serializer.tree(_args_of(value), MAX_DEPTH)]
        if not self._operations.gives(value, kind):
            return None
        shape = shape_of(kind)
        value_node = None
        if shape == "function":
            value_node = serializer.tree(callable_parts(value), MAX_DEPTH)
        elif shape == "exception":
            value_node = serializer.tree(_args_of(value), MAX_DEPTH)
        elif shape not in ("object", "generator", "coroutine"):
            value_node = serializer.tree(builtin_base(value), MAX_DEPTH)
        return ["O", self.given.number(value), self.given.class_number(kind), value_node]

    def resolve(self, tag: str, items: list[Any], serializer: Serializer) -> Any:
        """See `serialization.References`."""
        if tag == "R":
            return self.given.object(*items)
        if tag == "B":
            return SHARED[items[0]]
        if tag == "Y":
            return self._classes[items[0]]
        if tag == "E":
            return EXCEPTIONS[items[0]](*serializer.value(items[1], MAX_DEPTH))
        if tag != "O":
            raise ValueEncodingError(f"no value is tagged {tag[:20]!r}")
        number, class_number, node = items
        kind = self._classes[class_number]
        # Decoded even if the object is known, since it may hold numbered containers.
        value = serializer.value(node, MAX_DEPTH)
        if type(number) is int and number in self.got and not isinstance(self.got[number], type):
            self.returned(self.got[number])
            return self.got[number]
        if type(number) is not int or number in self.got or len(self.got) >= 2 * MAX_OBJECTS:
            raise ValueEncodingError("an object with a wrong number, or too many of them")
        made = self.made(kind, self._shapes[id(kind)][0], value, number)
        self.got[number] = made
        self._got_numbers[id(made)] = number
        return made

    def returned(self, handle: Any) -> None:
        """Told of every handle that arrives again."""

    def made(self, kind: type, shape: str, value: Any, number: int) -> Any:
        """What stands for another object of the other process."""
        if shape == "object":
            return object.__new__(kind)
        if shape == "exception":
            error: Any = kind.__new__(kind, *value)
            BaseException.args.__set__(error, value)  # type: ignore[attr-defined]
            return error
        if shape in ("function", "generator", "coroutine"):
            # The handle itself is known by the number as well: it is what the made object asks about.
            handle: Any = object.__new__(kind)
            self._got_numbers[id(handle)] = number
            # Kept, so that no other object can get its identity.
            self._kept.append(handle)
            if shape == "function":
                return self.function(handle, *value)
            return (handles.generated if shape == "generator" else handles.awaited)(handle)
        if type(value).__name__ != shape:
            raise ValueEncodingError("an object with another value than its class has")
        return type(value).__new__(kind, value)

    def function(self, handle: Any, name: str, doc: Any, parameters: Any, _: bool) -> Any:
        """What stands for a function, which may be a coroutine function."""
        assert isinstance(handle, FunctionHandle)
        handle.__name__ = handle.__qualname__ = name if type(name) is str and name.isidentifier() else "function"
        handle.__doc__ = doc if type(doc) is str else None
        if parameters is not None:
            handle.__signature__ = signature(parameters)
        return handle


def _args_of(error: BaseException) -> tuple[Any, ...]:
    try:
        Serializer().encode(error.args)
        return error.args
    except ValueEncodingError:
        return (str(error)[:_MAX_MESSAGE],)


def _text_of(error: BaseException) -> str:
    try:
        return Serializer().encode((str(error)[:_MAX_MESSAGE],))
    except Exception:  # noqa: BLE001 - the program's own `__str__`
        return Serializer().encode(())
