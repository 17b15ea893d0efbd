"""Input files of a program and the files it leaves: laid out before it runs, fetched when it has ended."""

from __future__ import annotations

import os
import secrets
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from sandbox.errors import FilesError
from sandbox.jail.scratch import DIRECTORY

MAX_FILES = 256
_MAX_DEPTH = 16
_MAX_NAME_BYTES = 255


def relative(name: str) -> PurePosixPath:
    """The path of a file within the directory of its program.

    Raises:
        FilesError: it is none, or lies outside.
    """
    path = PurePosixPath(name)
    if path.is_absolute() and path.is_relative_to(DIRECTORY):
        path = path.relative_to(DIRECTORY)
    parts = path.parts
    bad = not parts or path.is_absolute() or ".." in parts or len(parts) > _MAX_DEPTH or "\0" in name
    if bad or any(len(part.encode("utf-8", "surrogatepass")) > _MAX_NAME_BYTES for part in parts):
        raise FilesError(f"{name[:80]!r} is not a path within the program's directory: use relative ones without ..")
    return path


@contextmanager
def laid_out(files: Mapping[str, bytes], limit: int) -> Iterator[Path]:
    """A directory with these files, which is removed afterwards. Nobody can guess its path.

    Args:
        files: contents by path.
        limit: size of all of them together, bytes.

    Raises:
        FilesError: too many or too large, or a path that is none.
        OSError: no room for them.
    """
    size = sum(map(len, files.values()))
    if len(files) > MAX_FILES or size > limit:
        raise FilesError(f"{len(files)} files of {size} bytes: at most {MAX_FILES} of {limit} bytes are allowed")
    paths = {relative(name): content for name, content in files.items()}
    with tempfile.TemporaryDirectory(prefix="leeway-files-") as outer:
        # Programs may have another user; the name within cannot be listed.
        Path(outer).chmod(0o711)
        inner = Path(outer, secrets.token_hex(16))
        inner.mkdir(mode=0o755)
        for path, content in paths.items():
            try:
                (inner / path.parent).mkdir(parents=True, exist_ok=True)
                (inner / path).write_bytes(content)
            except (FileExistsError, NotADirectoryError, IsADirectoryError, UnicodeEncodeError) as error:
                raise FilesError(f"{path} cannot be made: {error}") from None
        yield inner


def fetched(directory: int, names: Iterable[str], limit: int) -> dict[str, bytes]:
    """The contents of those of the files that exist, by the names they were asked for.

    The program that made them has ended, but may have made anything: nothing but directories and files is followed.

    Args:
        directory: descriptor of the program's directory.
        names: relative paths.
        limit: size of all of them together, bytes.

    Raises:
        FilesError: too large, or a path that is none.
    """
    found: dict[str, bytes] = {}
    for name in names:
        content = _content(directory, relative(name).parts, limit + 1)
        if content is None:
            continue
        limit -= len(content)
        if limit < 0:
            raise FilesError("the fetched files are too large together")
        found[name] = content
    return found


def _content(directory: int, parts: tuple[str, ...], limit: int) -> bytes | None:
    """What is in a file, up to `limit` bytes; None if it does not exist or is no file."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    opened = [os.dup(directory)]
    try:
        for number, part in enumerate(parts, 1):
            opened.append(os.open(part, flags | (os.O_DIRECTORY if number < len(parts) else 0), dir_fd=opened[-1]))
        if not stat.S_ISREG(os.fstat(opened[-1]).st_mode):
            return None
        content = bytearray()
        while len(content) < limit and (chunk := os.read(opened[-1], min(1 << 20, limit - len(content)))):
            content += chunk
        return bytes(content)
    except (OSError, UnicodeEncodeError):
        return None
    finally:
        for fd in opened:
            os.close(fd)
