"""What changed in the replay since the journal's last transaction: calls to its state machines, and what they name.

Ledger, evaluations and the other parts of the replay's state are pure and deterministic, so the calls that changed
them, carried out again in the same order, bring back the same state. `recorded` puts a recorder before such an object:
whoever calls it need not know. A recorded method takes and returns what MessagePack can hold, and a result of False or
[] means that nothing was changed.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from actors.replay.batch import Head
from actors.replay.messages import CompletionVerdict, Purpose
from actors.replay.payload import Payload

T = TypeVar("T")
#: Target, method, positional and named arguments.
Call = tuple[str, str, list[Any], dict[str, Any]]
#: A group's purpose and its group_id.
Key = tuple[Purpose, int]


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a generator has submitted of a group."""

    prompt: str
    texts: tuple[str, ...]
    payload: Payload


@dataclass(slots=True)
class Changes:
    """Everything that one transaction makes durable, but for events."""

    calls: list[Call] = field(default_factory=list)
    accepted: dict[Key, Accepted] = field(default_factory=dict)
    scores: dict[Key, tuple[CompletionVerdict, ...]] = field(default_factory=dict)
    #: Groups that a teacher has scored, whole, in place of what was accepted.
    taught: dict[Key, Accepted] = field(default_factory=dict)
    #: Groups that are dropped, or that an evaluation has scored.
    forgotten: list[Key] = field(default_factory=list)
    #: What files of completions hold from some byte on: name, byte, content.
    kept: list[tuple[str, int, bytes]] = field(default_factory=list)
    #: Batches that a durable checkpoint covers, by version.
    committed: dict[int, list[Head]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.calls or self.accepted or self.scores or self.forgotten or self.kept or self.committed)

    def forget(self, key: Key) -> None:
        """A group is not needed any more; what was not written of it yet never will be."""
        self.scores.pop(key, None)
        self.taught.pop(key, None)
        if self.accepted.pop(key, None) is None:
            self.forgotten.append(key)


class _Recorder:
    """Passes everything on to `target`, and tells `record` of each call that may have changed it."""

    __slots__ = ("_name", "_reads", "_record", "_target")

    def __init__(self, name: str, target: object, reads: Collection[str], record: Callable[[Call], None]) -> None:
        self._name, self._target, self._reads, self._record = name, target, reads, record

    def __getattr__(self, attribute: str) -> Any:
        found = getattr(self._target, attribute)
        if not callable(found) or attribute in self._reads:
            return found

        def call(*arguments: Any, **named: Any) -> Any:
            result = found(*arguments, **named)
            if result is not False and result != []:
                self._record((self._name, attribute, list(arguments), named))
            return result

        return call


def recorded(name: str, target: T, reads: Collection[str], record: Callable[[Call], None]) -> T:
    """`target`, of which every call is recorded that may have changed it.

    Args:
        name: of the target, by which `replay` finds it.
        target: an object whose fields nobody but its own methods changes.
        reads: methods that change nothing. One that is not named here is recorded in vain, and nothing else.
        record: takes a call that was carried out; one that raised is not.
    """
    return cast("T", _Recorder(name, target, reads, record))


def replay(calls: Collection[Call], find: Callable[[str], Any]) -> None:
    """Carry out calls again.

    Args:
        calls: as recorded, in order.
        find: the target that a name stands for, at this point of the history.
    """
    for name, method, arguments, named in calls:
        getattr(find(name), method)(*arguments, **named)
