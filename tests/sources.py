"""Which files are the project: neither what git ignores, such as the environment of a peer, nor what is hidden."""

import subprocess
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]


def files(folder: str, pattern: str = "*") -> list[Path]:
    """The project's files below a folder of the checkout, sorted, whose names match a pattern."""
    inside = (path for path in _project() if path.is_relative_to(ROOT / folder) and fnmatch(path.name, pattern))
    return sorted(path for path in inside if path.is_file())


@cache
def _project() -> frozenset[Path]:
    return frozenset(path for path in map(ROOT.joinpath, _listed()) if not _hidden(path))


def _listed() -> Iterator[str]:
    """What git tracks or would track; without git or a repository, as in an unpacked archive, all that is there."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=60).stdout.decode()
    except (FileNotFoundError, subprocess.CalledProcessError):
        yield from (str(path.relative_to(ROOT)) for path in ROOT.rglob("*"))
    else:
        yield from filter(None, listed.split("\0"))


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(ROOT).parts)
