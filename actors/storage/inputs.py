"""Inputs of a run that are URIs: fetched once a machine into a folder of this user's, and read from there.

listed ──▶ locked ──▶ fetched beside its place ──▶ listed again, unchanged ──▶ renamed

A place in the cache is named by the URI and by what the storage says of the content (sizes, ETags, dates), so that a
file that changes is another file, and what is there is whole.
"""

import fcntl
import hashlib
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from actors.deadline import persistently, until
from actors.errors import RecipeError, StorageError
from actors.storage.uris import Uri, file_system, told
from learner.files import staged

#: The environment variable that moves the cache; it should be on a disk of the machine's own.
CACHE = "LEEWAY_CACHE"
#: Longest wait for another process of this machine to fetch the same (s): a terabyte at 300 MB/s.
WAIT_SECONDS = 3600.0
#: How long a storage that fails is asked again (s): throttling and the change of a server are over by then.
RETRY_SECONDS = 120.0
#: What storages say of a file that is another once its content is.
_TOKENS = frozenset(
    (
        *("etag", "md5", "md5hash", "content-md5", "digest", "checksum", "generation"),
        *("mtime", "created", "updated", "lastmodified", "last_modified", "last-modified"),
    )
)


def local(location: Path | Uri) -> Path:
    """The file or folder that a location names, as a path of this machine; a path is one already.

    A process that has fetched a URI keeps what it has, whatever is written there later.

    Raises:
        RecipeError: there is nothing at the URI, no access to it, or a package is missing.
        StorageError: the storage or the cache fails.
    """
    return location if isinstance(location, Path) else _fetched(location)


def below(folder: Path | Uri, name: str) -> Path | Uri:
    """The location of a file in a folder, so that it can be had without the others."""
    return folder / name if isinstance(folder, Path) else Uri(f"{folder.rstrip('/')}/{name}")


def cache_folder() -> Path:
    """Where this machine keeps what was fetched."""
    if given := os.environ.get(CACHE):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "leeway" / "inputs"


@lru_cache
def _fetched(uri: Uri) -> Path:
    files, path = file_system(uri)
    if "file" in (files.protocol if isinstance(files.protocol, tuple) else (files.protocol,)):
        return Path(path)
    with told(uri):
        return persistently(lambda: fetch(uri, files, path), StorageError, RETRY_SECONDS)


def fetch(uri: Uri, files: Any, path: str) -> Path:
    """The cached copy of what is at `path` of fsspec's file system `files` now. Raises as `local`."""
    with told(uri):
        listing = _listing(files, path)
        place = _place(uri, listing)
        if _is_whole(place, listing):
            return place
        with _alone(place.parent):
            if not _is_whole(place, listing):
                with staged(place.parent) as staging:
                    _download(files, path, listing, staging / place.name)
                    if _listing(files, path) != listing:
                        raise StorageError(f"{uri}: it was changed while it was fetched")
    return place


def _listing(files: Any, path: str) -> dict[str, dict[str, Any]]:
    """Size and tokens of every file by its name below `path`; of a file that is no folder under an empty name."""
    files.invalidate_cache()
    info = files.info(path)
    found = {"": info}
    if info["type"] == "directory":
        stem = f"{path.rstrip('/')}/"
        found = {name.removeprefix(stem): info for name, info in files.find(path, detail=True).items()}
        found = {name: info for name, info in found.items() if name and not name.endswith("/")}
    if not found:
        raise FileNotFoundError(path)
    return {name: _identity(found[name]) for name in sorted(found)}


def _identity(info: Mapping[str, Any]) -> dict[str, Any]:
    tokens = {key.lower(): str(value) for key, value in info.items() if key.lower() in _TOKENS}
    return {"size": info.get("size"), **tokens}


def _place(uri: Uri, listing: Mapping[str, Any]) -> Path:
    """It ends as the URI does: names of files are shown, and their endings mean something."""
    for name in listing:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise RecipeError(f"{uri}: holds {name!r}, which would be written outside of its folder")
    digest = hashlib.sha256(json.dumps([uri, listing]).encode()).hexdigest()[:32]
    name = PurePosixPath(uri.partition("?")[0].partition("::")[0].partition("://")[2]).name
    return cache_folder() / digest / (name if name not in ("", ".", "..") else "content")


def _is_whole(place: Path, listing: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether every file is there with its size; also where somebody has tidied up in the cache."""
    for name, identity in listing.items():
        file = place / name if name else place
        if not file.is_file() or identity["size"] not in (None, file.stat().st_size):
            return False
    return True


def _download(files: Any, path: str, listing: Mapping[str, Mapping[str, Any]], place: Path) -> None:
    for name, identity in listing.items():
        target = place / name if name else place
        target.parent.mkdir(parents=True, exist_ok=True)
        files.get_file(f"{path.rstrip('/')}/{name}" if name else path, str(target))
        if identity["size"] not in (None, size := target.stat().st_size):
            raise StorageError(f"{name or path}: {size} bytes came of {identity['size']}")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep the machine's other processes from fetching the same meanwhile; the kernel lets go of what dies."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.with_name(f"{folder.name}.lock")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not until(lambda: _lock(descriptor), WAIT_SECONDS, interval=0.1):
            holder = os.pread(descriptor, 200, 0).decode("utf-8", "replace") or "another process"
            raise StorageError(f"waited {WAIT_SECONDS:g} s for {holder} to fetch it; see {path}")
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
