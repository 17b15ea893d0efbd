"""Values between a program and its tests, with what plain values lose: identity and changes of arguments.

Beyond the encoding of `sandbox.jail.values`:

    list, dict, set, …           numbered in the order in which they first occur in one call and its reply
    one that occurred before     ["@", number]
    types of the library         see `sandbox.jail.standard`
    views of a dictionary        ["K", key, …], ["V", value, …], ["I", key, value, …]
    instance of the tests        ["^", number]; what it holds stands behind everything else: ["#", value, held, …]
    what is no value             see `References`

Both sides number alike, so a reply names the caller's own objects. Nothing here calls a method of a hostile class: what
arrives is built from exact builtin and standard types.
"""

from __future__ import annotations

import json
from typing import Any, Protocol

from sandbox.jail import standard, values
from sandbox.jail.values import MAX_DEPTH, ValueEncodingError

_VIEWS = {type({}.keys()): "K", type({}.values()): "V", type({}.items()): "I"}


class References(Protocol):
    """What becomes of objects that are no values."""

    def export(self, value: Any, kind: type, serializer: Serializer) -> Any:
        """A tree that refers to an object, or None if its value is to cross.

        Raises:
            ValueEncodingError: it may not cross at all.
        """

    def resolve(self, tag: str, items: list[Any], serializer: Serializer) -> Any:
        """The object that a tree refers to.

        Raises:
            ValueEncodingError: it refers to nothing.
        """

    def held(self, value: Any, /) -> Any:
        """What `revive` needs of an instance that crosses by its attributes, a pair; None for other objects."""

    def revive(self, held: Any) -> Any:
        """An instance without its attributes."""

    def accept(self, instance: Any, attributes: dict[str, Any]) -> None:
        """Refuse attributes that an instance must not get.

        Raises:
            ValueEncodingError: it must not.
        """


class Serializer:
    """Encodes and decodes one call and its reply, on either side; numbers the objects in it."""

    def __init__(self, references: References | None = None) -> None:
        self.objects: list[Any] = []
        self.sent: list[Any] = []
        self.instances: list[Any] = []
        self._numbers: dict[int, int] = {}
        self._instance_numbers: dict[int, int] = {}
        self.references = references
        self._told = 0

    def encode(self, value: Any) -> str:
        """One line of JSON.

        Raises:
            ValueEncodingError: something in it has no encoding.
        """
        root, held = self.tree(value, MAX_DEPTH), []
        while self._told < len(self.instances):
            self._told += 1
            held.append(self.tree(self._held(self.instances[self._told - 1]), MAX_DEPTH))
        return json.dumps(["#", root, *held] if held else root, separators=(",", ":"))

    def decode(self, text: str | bytes) -> Any:
        """The value of one line.

        Raises:
            ValueEncodingError: it is not an encoding.
        """
        tree = values.load(text)
        if type(tree) is not list or len(tree) < 2 or tree[0] != "#" or self.references is None:
            return self.value(tree, MAX_DEPTH)
        held = []
        for node in tree[2:]:
            # What was held refers to instances that are yet to come.
            if type(node) is not list or len(node) != 4 or node[0] != "t":
                raise ValueEncodingError("malformed instance")
            self._instance(self.references.revive(self.value(["t", *node[1:3]], MAX_DEPTH)))
            held.append((self.instances[-1], node[3]))
        self._told = len(self.instances)
        value = self.value(tree[1], MAX_DEPTH)
        for instance, node in held:
            attributes = self.value(node, MAX_DEPTH)
            if type(attributes) is not dict or not all(type(name) is str for name in attributes):
                raise ValueEncodingError("malformed attributes")
            self.references.accept(instance, attributes)
            vars(instance).update(attributes)
        return value

    def _held(self, instance: Any) -> tuple[Any, Any, dict[str, Any]]:
        assert self.references is not None
        return (*self.references.held(instance), vars(instance))

    def tree(self, value: Any, depth: int) -> Any:
        """The tree of a value.

        Raises:
            ValueEncodingError: something in it has no encoding.
        """
        if depth <= 0:
            raise ValueEncodingError("nested too deeply")
        kind = type(value)
        if kind in values.SCALARS:
            return values.encode_node(value)
        if kind in standard.MUTABLE or kind.__module__ == "numpy":
            if id(value) in self._numbers:
                return ["@", self._numbers[id(value)]]
            if standard.mutable(value):
                self._number(value)
        if kind in _TAGS:
            parts = [part for pair in value.items() for part in pair] if kind is dict else value
            return [_TAGS[kind], *[self.tree(part, depth - 1) for part in parts]]
        return self._other_tree(value, kind, depth)

    def _other_tree(self, value: Any, kind: type, depth: int) -> Any:
        found = standard.parts(value)
        if found is not None:
            tag, parts = found
            return [tag, *[self.tree(part, depth - 1) for part in parts]]
        if kind in _VIEWS:
            items = [part for pair in value for part in pair] if _VIEWS[kind] == "I" else value
            return [_VIEWS[kind], *[self.tree(item, depth - 1) for item in items]]
        if self.references is not None:
            if id(value) in self._instance_numbers or self.references.held(value) is not None:
                return ["^", self._instance(value)]
            if (node := self.references.export(value, kind, self)) is not None:
                return node
        # A container made here is numbered like any other, and so lives as long as this serializer.
        return self.tree(values.builtin_base(value), depth)

    def _number(self, value: Any) -> None:
        self._numbers[id(value)] = len(self.objects)
        self.objects.append(value)

    def _instance(self, value: Any) -> int:
        number = self._instance_numbers.setdefault(id(value), len(self.instances))
        if number == len(self.instances):
            self.instances.append(value)
        return number

    def value(self, node: Any, depth: int) -> Any:
        """The value of a tree.

        Raises:
            ValueEncodingError: it is not an encoding.
        """
        if depth <= 0:
            raise ValueEncodingError("nested too deeply")
        if type(node) is not list or not node:
            return values.decode_node(node)
        tag, items = node[0], node[1:]
        if type(tag) is not str:
            raise ValueEncodingError("not a tagged value")
        if tag in ("@", "^"):
            return _numbered(self.objects if tag == "@" else self.instances, items)
        if tag in ("i", "f", "b", "c"):
            return values.scalar(tag, items)
        try:
            return self._container(tag, items, depth)
        except (ValueError, TypeError, ArithmeticError, AttributeError, LookupError):
            raise ValueEncodingError(f"malformed value tagged {tag[:20]!r}") from None

    def _container(self, tag: str, items: list[Any], depth: int) -> Any:
        if tag in _EMPTY:
            made: Any = _EMPTY[tag]()
            self._number(made)
            parts = [self.value(item, depth - 1) for item in items]
            if tag == "l":
                made.extend(parts)
            else:
                made.update(zip(parts[::2], parts[1::2], strict=True) if tag == "d" else parts)
            return made
        if tag in ("t", "z"):
            return (tuple if tag == "t" else frozenset)([self.value(item, depth - 1) for item in items])
        if tag in standard.TAGS:
            number = len(self.objects)
            if tag in standard.MUTABLE_TAGS:
                self.objects.append(None)
            made = standard.built(tag, [self.value(item, depth - 1) for item in items])
            if tag in standard.MUTABLE_TAGS:
                self.objects[number] = made
                self._numbers[id(made)] = number
            return made
        if tag in _VIEW_BUILDERS:
            return _VIEW_BUILDERS[tag]([self.value(item, depth - 1) for item in items])
        if self.references is not None:
            return self.references.resolve(tag, items, self)
        return values.refuse_tag(tag)


def snapshots(serializer: Serializer) -> list[Any]:
    """Shallow copies, to find out later which objects have changed."""
    return [_content(one) for one in (*serializer.objects, *serializer.instances)]


def changes(serializer: Serializer, before: list[Any]) -> list[tuple[int, Any]]:
    """Number and content of every object that no longer holds what its copy holds; instances count down from -1."""
    objects, count = serializer.objects, len(before) - len(serializer.instances)
    found = [
        (number, _content(now))
        for number, (now, old) in enumerate(zip(objects[:count], before, strict=False))
        if standard.differ(now, old)
    ]
    held = zip(serializer.instances, before[count:], strict=False)
    return found + [
        (-1 - number, dict(vars(now))) for number, (now, old) in enumerate(held) if standard.differ(vars(now), old)
    ]


def apply(serializer: Serializer, changed: Any) -> None:
    """Give the numbered objects their new content.

    Raises:
        ValueEncodingError: one is of another type.
    """
    for number, content in _pairs_of(changed):
        objects = serializer.objects if number >= 0 else serializer.instances
        index = number if number >= 0 else -1 - number
        if index >= len(objects):
            raise ValueEncodingError("an argument that is none has changed")
        target = objects[index]
        if type(content) is not (type(target) if number >= 0 else dict):
            raise ValueEncodingError("an argument changed its type")
        if number < 0 and serializer.references is not None:
            serializer.references.accept(target, content)
        standard.fill(target if number >= 0 else vars(target), content)


def _pairs_of(changed: Any) -> list[tuple[int, Any]]:
    if type(changed) is not list or not all(type(pair) is tuple and len(pair) == 2 for pair in changed):
        raise ValueEncodingError("malformed changes")
    if not all(type(number) is int for number, _ in changed):
        raise ValueEncodingError("an argument that is none has changed")
    return changed


def _content(one: Any) -> Any:
    return one.copy() if standard.mutable(one) else dict(vars(one))


def _numbered(objects: list[Any], items: list[Any]) -> Any:
    if len(items) != 1 or type(items[0]) is not int or not 0 <= items[0] < len(objects) or objects[items[0]] is None:
        raise ValueEncodingError("reference to nothing")
    return objects[items[0]]


_TAGS: dict[type, str] = {list: "l", tuple: "t", dict: "d", set: "s", frozenset: "z"}
_EMPTY: dict[str, type] = {"l": list, "d": dict, "s": set}
_VIEW_BUILDERS: dict[str, Any] = {
    "K": lambda parts: dict.fromkeys(parts).keys(),
    "V": lambda parts: dict(enumerate(parts)).values(),
    "I": lambda parts: dict(zip(parts[::2], parts[1::2], strict=True)).items(),
}
