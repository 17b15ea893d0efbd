"""Rows with checksums in a SQLite file, and the number of the last transaction beside it.

SQLite keeps a transaction whole, and what a killed process has handed to the operating system is written. Two things it
does not tell: that bytes were changed within a row, hence a checksum a row; and that the end of its write-ahead log is
gone, since a log that breaks off looks like one that ended there. Hence the number of the last transaction in a file of
its own, which is written after each.

The file is opened in exclusive mode: of two processes that take themselves for its owner one can use it.
"""

import os
import sqlite3
import struct
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import xxhash

from actors.errors import JournalBlockedError, JournalError, JournalHeldError

FILE, MARK = "journal.db", "last"
SCHEMA = 3
APPLICATION = 0x4C656577
#: SQLite's largest. Groups are of kilobytes to megabytes: with 16 KiB a large one costs half as much again.
PAGE_BYTES = 65_536
#: What a connection may keep in memory (KiB).
CACHE_KIB = 65_536
#: The log goes into the file once it has so many pages (256 MiB), and is not kept longer than that. Most groups are
#: committed and deleted before, and their pages are then written once and not twice.
LOG_PAGES = 4096
#: How long another process may have the file, which perhaps is about to end (s).
LOCK_SECONDS = 10.0
TABLES = ("identity", "state", "ticks", "groups", "scores", "events", "batches")
#: Where SQLite says one of these it may go well later: the disk is full, as a rule. Nothing was changed.
RETRYABLE = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_BUSY,
    }
)
_MARK = struct.Struct("<Q8s")

Connect = Callable[[str], sqlite3.Connection]


def connect(path: str) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=LOCK_SECONDS, isolation_level=None, check_same_thread=False)


class Rows:
    """The file in `folder`, which is made where it is not there. One thread at a time may use it.

    Attributes:
        last: number of the last transaction; 0 where there was none yet.

    Args:
        folder: of the file and what belongs to it.
        synchronous: SQLite's word for when it waits for the disk.
        connect: opens a file.

    Raises:
        JournalError: it is damaged, of another release, or another process has it.
    """

    def __init__(self, folder: Path, synchronous: str, connect: Connect = connect) -> None:
        self._folder = folder
        self._mark = -1
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._require_both()
            self._mark = os.open(folder / MARK, os.O_RDWR | os.O_CREAT, 0o644)
            self._connection = connect(str(folder / FILE))
        except (OSError, sqlite3.Error) as error:
            self._close_mark()
            raise JournalError(f"{folder}: the journal of the replay cannot be opened ({error})") from error
        try:
            with self._reading():
                self._prepare(synchronous)
            self.last = self._marked()
        except BaseException:
            self.close()
            raise

    def _require_both(self) -> None:
        file, mark = ((self._folder / name).exists() for name in (FILE, MARK))
        if mark != file and not (mark and not (self._folder / MARK).stat().st_size):
            raise self.damaged(f"{MARK if file else FILE} is missing")
        log = self._folder / f"{FILE}-wal"
        if file and (self._folder / FILE).stat().st_size < PAGE_BYTES and log.exists() and log.stat().st_size:
            raise self.damaged(f"{FILE} was cut off, and {log.name} has what was written after it")

    def _prepare(self, synchronous: str) -> None:
        run = self._connection.execute
        run("PRAGMA locking_mode = EXCLUSIVE")
        run(f"PRAGMA page_size = {PAGE_BYTES}")
        run("PRAGMA journal_mode = WAL").fetchone()
        for setting, value in (
            ("synchronous", synchronous),
            ("cache_size", -CACHE_KIB),
            ("secure_delete", "OFF"),
            ("wal_autocheckpoint", LOG_PAGES),
            ("journal_size_limit", LOG_PAGES * PAGE_BYTES),
            ("cell_size_check", "ON"),
        ):
            run(f"PRAGMA {setting} = {value}").fetchall()
        tables = {name for (name,) in run("SELECT name FROM sqlite_master WHERE type = 'table'")}
        ((version,),) = run("PRAGMA user_version").fetchall()
        if not tables and version == 0 and not os.fstat(self._mark).st_size:
            self._create()
        elif version != SCHEMA:
            raise self.damaged(f"it is of schema {version}, and this release reads {SCHEMA}")
        elif tables != set(TABLES):
            raise self.damaged(f"it has the tables {sorted(tables)}")

    def _create(self) -> None:
        run = self._connection.execute
        run("BEGIN IMMEDIATE")
        run(f"PRAGMA application_id = {APPLICATION}")
        run(f"PRAGMA user_version = {SCHEMA}")
        for table in TABLES:
            run(f"CREATE TABLE {table} (key INTEGER PRIMARY KEY, data BLOB NOT NULL, sum BLOB NOT NULL)")
        run("COMMIT")
        self._set_mark(0)

    # ---------------------------------------------------------------- the mark

    def _marked(self) -> int:
        found = os.pread(self._mark, _MARK.size + 1, 0)
        if len(found) != _MARK.size:
            raise self.damaged(f"{MARK} has {len(found)} bytes of {_MARK.size}")
        number, checksum = _MARK.unpack(found)
        if checksum != xxhash.xxh3_64_digest(found[:8]):
            raise self.damaged(f"{MARK} was changed")
        return int(number)

    def _set_mark(self, number: int) -> None:
        packed = number.to_bytes(8, "little")
        os.pwrite(self._mark, _MARK.pack(number, xxhash.xxh3_64_digest(packed)), 0)

    def _close_mark(self) -> None:
        if self._mark >= 0:
            os.close(self._mark)
            self._mark = -1

    # ---------------------------------------------------------------- rows

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """What the block writes is written as a whole, or not at all.

        Raises:
            JournalBlockedError: it cannot be written now.
            JournalError: the file is damaged.
        """
        try:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    if self._connection.in_transaction:
                        self._connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", None)
            if code is not None and code & 0xFF in RETRYABLE:
                raise JournalBlockedError(f"{self._folder}: {error}") from error
            raise self.damaged(str(error)) from error
        self.last += 1
        with suppress(OSError):  # it then says less than it could
            self._set_mark(self.last)

    def put(self, table: str, key: int, data: bytes) -> None:
        self._connection.execute(
            f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?)", (key, data, _checksum(table, key, data))
        )

    def delete(self, table: str, keys: Collection[int]) -> None:
        self._connection.executemany(f"DELETE FROM {table} WHERE key = ?", [(key,) for key in keys])

    def delete_below(self, table: str, key: int, limit: int = -1) -> None:
        """Delete the rows before `key`, the first `limit` of them."""
        chosen = f"SELECT key FROM {table} WHERE key < ? ORDER BY key LIMIT ?"
        self._connection.execute(f"DELETE FROM {table} WHERE key IN ({chosen})", (key, limit))

    def get(self, table: str, key: int) -> bytes | None:
        """Raises JournalError where the row was changed by somebody else."""
        with self._reading():
            row = self._connection.execute(f"SELECT data, sum FROM {table} WHERE key = ?", (key,)).fetchone()
        return None if row is None else self._checked(table, key, *row)

    def rows(self, table: str) -> Iterator[tuple[int, bytes]]:
        """All rows, by key. Raises JournalError where one was changed by somebody else."""
        for key in self.keys(table):
            data = self.get(table, key)
            if data is None:
                raise self.damaged(f"row {key} of {table} is missing")
            yield key, data

    def keys(self, table: str) -> list[int]:
        with self._reading():
            return [key for (key,) in self._connection.execute(f"SELECT key FROM {table} ORDER BY key")]

    def size(self) -> int:
        """Bytes on the disk."""
        return sum(file.stat().st_size for file in self._folder.iterdir() if file.is_file())

    def close(self) -> None:
        """The log goes into the file, where there is room for it."""
        with suppress(sqlite3.Error):
            self._connection.close()
        self._close_mark()

    def damaged(self, what: str) -> JournalError:
        return JournalError(f"{self._folder}: the journal of the replay is damaged: {what}")

    def _checked(self, table: str, key: int, data: object, checksum: object) -> bytes:
        if not isinstance(data, bytes) or checksum != _checksum(table, key, data):
            raise self.damaged(f"row {key} of {table} was changed")
        return data

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise JournalHeldError(
                    f"{self._folder}: another process has the journal of the replay open; end it first"
                ) from error
            raise self.damaged(str(error)) from error
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # SQLite quotes what it cannot read
            raise self.damaged(str(error)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _checksum(table: str, key: int, data: bytes) -> bytes:
    """It is of the place, too: a row that took another one's is noticed."""
    found = xxhash.xxh3_64(f"{table} {key} ".encode())
    found.update(data)
    return found.digest()
