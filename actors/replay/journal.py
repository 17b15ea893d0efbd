"""The replay's journal: what its state follows from, in one transaction a tick of the service.

    identity   the run, the limits of its ledger and the first version
    state      of the replay's state machines after some tick
    ticks      the calls that changed them since, a row a tick
    groups     what generators have submitted, by group_id; those of evaluations by its complement
    scores     what verifiers have said of them
    events     what the run's watchers were or will be told, by number
    batches    the heads of committed batches, by version, where `replay.journal.keep` is all

A group is deleted some ticks after its batch was committed, a few in each, and the room that it took is used again.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
from pydantic import TypeAdapter, ValidationError

from actors.config.roles import JournalConfig
from actors.errors import JournalError, ProtocolError
from actors.events import EVENT, Event
from actors.replay.batch import Head
from actors.replay.changes import Accepted, Call, Changes, Key
from actors.replay.limits import ReplayLimits
from actors.replay.messages import CompletionVerdict
from actors.replay.payload import Payload
from actors.replay.records import Past
from actors.replay.rows import Connect, Rows, connect

FOLDER = "journal"
#: The state is written anew once the calls since are so large (bytes), or a few times as large as the state was.
STATE_BYTES, STATE_FACTOR = 2**20, 4
#: Groups that a tick deletes at least; twice as many as it writes, where that is more.
DELETED_A_TICK = 8
#: Events that a tick deletes at most.
EVENTS_DELETED_A_TICK = 256
#: When SQLite waits for the disk: in every transaction, or never.
SYNCHRONOUS = {"fsync": "FULL", "buffered": "OFF"}
#: Limits that a run which resumes may change and go on with its journal.
CHANGEABLE = frozenset(
    {
        "drop_zero_variance",
        "lease_seconds",
        "verify_lease_seconds",
        "verify_attempts",
        "curriculum_floor",
        "curriculum_half_life",
    }
)
_SCORES = TypeAdapter(tuple[CompletionVerdict, ...])
_HEADS = TypeAdapter(list[Head])


@dataclass(frozen=True, slots=True)
class Identity:
    """What a journal is of.

    Attributes:
        run: name of the run folder.
        group_size: completions of a training task.
        limits: of the ledger.
        first_version: that it began with.
        number: how many journals of the run were put aside before it.
    """

    run: str
    group_size: int
    limits: ReplayLimits
    first_version: int = 0
    number: int = 0

    def differs(self, other: "Identity") -> str | None:
        """Why a run cannot go on with a journal that was written for another identity."""
        if self.run != other.run:
            return f"it is of the run {other.run}"
        mine, others = ({"group_size": i.group_size} | asdict(i.limits) for i in (self, other))
        changed = [name for name in mine.keys() - CHANGEABLE if mine[name] != others[name]]
        return f"it was written with another {', '.join(sorted(changed))}" if changed else None


def place_of(folder: Path, shard: int) -> Path:
    """Where a shard's journal is in a run folder."""
    return folder / (FOLDER if shard == 0 else f"{FOLDER}-{shard}")


def aside(place: Path, what: str) -> Path:
    """What a journal is called that was put aside."""
    return place.with_name(f"{place.name}-until-{what}")


def asides(place: Path) -> list[Path]:
    """The journals that were put aside for the one at `place`."""
    return list(place.parent.glob(aside(place, "*").name))


class Journal:
    """One journal, opened. `past` is what it holds, None where nothing was written yet; `events` with their numbers.

    Args:
        folder: where it is, or is made.
        identity: what it is to be of.
        config: how it is kept.
        connect: opens the file.

    Raises:
        JournalError: it is damaged, of something else, or another process has it.
    """

    def __init__(self, folder: Path, identity: Identity, config: JournalConfig, connect: Connect = connect) -> None:
        self.identity = replace(identity, number=len(asides(folder)))
        self._keep_all = config.keep == "all"
        self._rows = Rows(folder, SYNCHRONOUS.get(config.durability, "FULL"), connect)
        self._doomed: deque[int] = deque()
        self._state_bytes = self._call_bytes = 0
        self._state_due = True
        self.past: Past | None = None
        self.events: list[tuple[int, Event]] = []
        try:
            self._load()
        except BaseException:
            self.close()
            raise

    # ---------------------------------------------------------------- reading

    def _load(self) -> None:
        if (packed := self._rows.get("identity", 1)) is None:
            if self._rows.last or self._rows.keys("state"):
                raise self._rows.damaged("its identity is missing")
            return
        found = _identity(self._rows, packed)
        if why := self.identity.differs(found):
            raise JournalError(f"the journal of the replay cannot be used: {why}")
        self.identity = replace(self.identity, first_version=found.first_version, number=found.number)
        state, calls = self._calls()
        self.past = Past(found.limits, state, calls, self._accepted, self._scores)
        with _Parsing(self._rows, "an event"):
            self.events = [(number, EVENT.validate_json(data)) for number, data in self._rows.rows("events")]

    def _calls(self) -> tuple[Mapping[str, Any], list[Call]]:
        """The state, and the calls since."""
        if (packed := self._rows.get("state", 1)) is None:
            raise self._rows.damaged("its state is missing")
        with _Parsing(self._rows, "its state"):
            tick, state = _unpacked(packed)
        calls: list[Call] = []
        for number, data in self._rows.rows("ticks"):
            tick += 1
            if number != tick:
                raise self._rows.damaged(f"tick {tick} is missing")
            with _Parsing(self._rows, f"tick {number}"):
                calls += [(target, method, list(args), named) for target, method, args, named in _unpacked(data)]
        if tick < self._rows.last:
            raise self._rows.damaged(f"its end is missing: ticks {tick + 1} to {self._rows.last}")
        self._rows.last = tick
        return state, calls

    def _accepted(self, key: Key) -> Accepted:
        return _group(self._rows, _row(key))

    def _scores(self, key: Key) -> tuple[CompletionVerdict, ...]:
        data = _required(self._rows, "scores", _row(key))
        with _Parsing(self._rows, f"the scores of group {key[1]}"):
            return _SCORES.validate_python(_unpacked(data))

    def retain(self, keys: Iterable[Key]) -> None:
        """Delete, in time, every group but these and those of batches that are kept."""
        kept = {_row(key) for key in keys}
        for _, data in self._rows.rows("batches"):
            kept |= {head.group_id for head in _HEADS.validate_python(_unpacked(data))}
        self._doomed.extend(sorted({*self._rows.keys("groups"), *self._rows.keys("scores")} - kept))

    @staticmethod
    def identity_of(folder: Path) -> Identity | None:
        """What the journal in a folder is of; None where nothing was written yet.

        Raises:
            JournalError: it is damaged, or another process has it.
        """
        with Rows(folder, "FULL") as rows:
            packed = rows.get("identity", 1)
            return None if packed is None else _identity(rows, packed)

    @staticmethod
    def read(folder: Path, shards: int = 1) -> Iterator[tuple[int, list[tuple[Head, Payload]]]]:
        """Every batch that a run has trained and committed, in order, where `replay.journal.keep` is all: its version,
        and its groups in the order of training.

        Args:
            folder: of the run, which nobody runs now.
            shards: of its replay.

        Raises:
            JournalError: there is no journal, it keeps no batches, it is damaged, or the run is alive.
        """
        # What the last commit has reached of some shards alone is trained, and not committed.
        for parts in zip(*(_batches(place_of(folder, shard)) for shard in range(shards)), strict=False):
            versions = [version for version, _ in parts]
            if len(set(versions)) > 1:
                raise JournalError(f"{folder}: its journals begin with different batches, of versions {versions}")
            yield versions[0], [group for _, groups in parts for group in groups]

    # ---------------------------------------------------------------- writing

    @property
    def due(self) -> bool:
        """Whether it is to be written even where nothing has changed: it was opened just now, or has to delete."""
        return self._state_due or bool(self._doomed)

    def write(
        self, changes: Changes, events: Sequence[tuple[int, Event]], first_event: int, state: Callable[[], Any]
    ) -> int:
        """Make durable what a tick has changed.

        Args:
            changes: of the state machines, and what they name.
            events: that were recorded since, with their numbers.
            first_event: events before this number are not needed any more.
            state: of the state machines after these changes.

        Returns:
            How many bytes were written, but for what SQLite adds.

        Raises:
            JournalBlockedError: it cannot be written now; nothing was.
            JournalError: it is damaged.
        """
        number, calls = self._rows.last + 1, _packed(changes.calls)
        puts = list(_contents(changes, events))
        if self._keep_all:
            puts += [("batches", v, _packed([h.model_dump() for h in heads])) for v, heads in changes.committed.items()]
        if self._state_due:
            puts.append(("identity", 1, _packed(asdict(self.identity))))
        full = self._state_due or self._call_bytes > max(STATE_BYTES, STATE_FACTOR * self._state_bytes)
        if full:
            puts.append(("state", 1, _packed([number, state()])))
            state_bytes = len(puts[-1][2])
        else:
            puts.append(("ticks", number, calls))
        doomed = list(self._newly_doomed(changes))
        slice_ = list(islice(chain(self._doomed, doomed), max(DELETED_A_TICK, 2 * len(changes.accepted))))
        with self._rows.transaction():
            for table, key, data in puts:
                self._rows.put(table, key, data)
            for table in ("groups", "scores"):
                self._rows.delete(table, slice_)
            self._rows.delete_below("events", first_event, EVENTS_DELETED_A_TICK)
            if full:
                self._rows.delete_below("ticks", number)
        self._doomed.extend(doomed)
        for _ in slice_:
            self._doomed.popleft()
        self._call_bytes += len(calls)
        if full:
            self._state_due, self._call_bytes, self._state_bytes = False, 0, state_bytes
        return sum(len(data) for _, _, data in puts)

    def _newly_doomed(self, changes: Changes) -> Iterator[int]:
        yield from map(_row, changes.forgotten)
        if not self._keep_all:
            yield from (head.group_id for heads in changes.committed.values() for head in heads)

    def size(self) -> int:
        """Bytes on the disk."""
        return self._rows.size()

    def close(self) -> None:
        self._rows.close()


def _batches(place: Path) -> Iterator[tuple[int, list[tuple[Head, Payload]]]]:
    """Every batch that one journal keeps, and those that were put aside for it."""
    with ExitStack() as open_:
        opened: list[tuple[Identity, Rows]] = []
        for found in (*asides(place), place):
            if found.is_dir():
                rows = open_.enter_context(Rows(found, "FULL"))
                if (packed := rows.get("identity", 1)) is not None:
                    opened.append((_identity(rows, packed), rows))
        opened.sort(key=lambda journal: journal[0].number)
        expected: int | None = None
        for position, (_, rows) in enumerate(opened):
            # A run that went back to an older checkpoint has trained later versions again.
            end = min((identity.first_version for identity, _ in opened[position + 1 :]), default=None)
            for version in rows.keys("batches"):
                if end is not None and version >= end:
                    break
                if expected is not None and version != expected:
                    raise rows.damaged(f"the batch of version {expected} is missing")
                expected = version + 1
                yield version, _batch(rows, version)
    if expected is None:
        raise JournalError(f"{place.parent}: no batch is kept here; that takes replay.journal.keep: all from the start")


def _batch(rows: Rows, version: int) -> list[tuple[Head, Payload]]:
    data = _required(rows, "batches", version)
    with _Parsing(rows, f"the batch of version {version}"):
        heads = _HEADS.validate_python(_unpacked(data))
    return [(head, _group(rows, head.group_id).payload) for head in heads]


def _group(rows: Rows, key: int) -> Accepted:
    data = _required(rows, "groups", key)
    with _Parsing(rows, f"group {key}"):
        prompt, texts, packed = _unpacked(data)
        arrays = {name: np.frombuffer(content, dtype) for name, dtype, content in packed}
        return Accepted(prompt, tuple(texts), Payload.of(arrays, len(texts)))


def _identity(rows: Rows, packed: bytes) -> Identity:
    with _Parsing(rows, "its identity"):
        fields = _unpacked(packed)
        return Identity(**fields | {"limits": ReplayLimits(**fields["limits"])})


def _required(rows: Rows, table: str, key: int) -> bytes:
    if (data := rows.get(table, key)) is None:
        raise rows.damaged(f"row {key} of {table} is missing")
    return data


class _Parsing:
    """Within it, what cannot be read is damage: the checksums were right, so another release may have written it."""

    def __init__(self, rows: Rows, what: str) -> None:
        self._rows, self._what = rows, what

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, (ValidationError, ProtocolError, ValueError, TypeError, LookupError)):
            raise self._rows.damaged(f"{self._what} cannot be read ({error})") from error


def _contents(changes: Changes, events: Sequence[tuple[int, Event]]) -> Iterator[tuple[str, int, bytes]]:
    for key, group in (changes.accepted | changes.taught).items():
        arrays = [
            [name, a.dtype.str, np.ascontiguousarray(a).data.cast("B")] for name, a in group.payload.arrays().items()
        ]
        yield "groups", _row(key), msgpack.packb([group.prompt, group.texts, arrays])
    for key, scores in changes.scores.items():
        yield "scores", _row(key), _packed([score.model_dump() for score in scores])
    for number, event in events:
        yield "events", number, event.model_dump_json().encode()


def _row(key: Key) -> int:
    """Evaluations number their groups on their own."""
    purpose, group_id = key
    return group_id if purpose == "train" else ~group_id


def _packed(value: Any) -> bytes:
    """Texts of messages are whole; what else is told may hold half a surrogate pair, which costs time to look for."""
    return bytes(msgpack.packb(value, unicode_errors="surrogatepass"))


def _unpacked(data: bytes) -> Any:
    return msgpack.unpackb(data, strict_map_key=False, unicode_errors="surrogatepass")
