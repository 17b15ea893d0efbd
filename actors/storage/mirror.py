"""A run's mirror in a storage: what another machine resumes from once the run's own disks are gone.

    MIRROR/RUN/recipe.yaml, metrics.jsonl, …     the record
    MIRROR/RUN/checkpoints/step-000020/…         and mirrored.json, with size and hash of every file, written last
    MIRROR/RUN/model/…, reward-model/…           likewise

A folder counts once its manifest is there, and that is written after every file was read back and found to be what was
sent. The replay's journal stays on the run's own disk: what no checkpoint contains is generated anew.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from actors.deadline import persistently
from actors.errors import RecipeError, StorageError
from actors.storage.uris import Uri, file_system, protocols, told
from learner.extra import CHECKPOINTS, STEP, checkpoint_name, read_meta
from learner.files import sha256_of

MANIFEST = "mirrored.json"
#: Where a run folder keeps what is on its way: `learner.files.tidy` knows such names.
PINNED = ".mirror.tmp"
#: How long a storage that fails is asked again before that is told (s); it is asked anew later.
RETRY_SECONDS = 60.0
#: Protocols that know no folders, and would make a bucket in place of one.
_FLAT = frozenset(("s3", "s3a", "gs", "gcs", "abfs", "az"))
_BLOCK_BYTES = 8 * 2**20
#: Of the files of a run folder these are its record. The others are locks, addresses and a token.
_RECORD = ("*.jsonl", "*.yaml", "*.html", "*.md", "*.json", "tensorboard/**/*")
_PRIVATE = ("controller.json", "pools.json")

Files = dict[str, dict[str, Any]]


class Mirror:
    """One run's folder in a storage. Not for several threads.

    Every method raises StorageError where the storage fails for `RETRY_SECONDS`, and RecipeError where it refuses.

    Args:
        uri: of the run's folder there.
    """

    def __init__(self, uri: Uri) -> None:
        self.uri = Uri(uri.rstrip("/"))
        self._files, self._root = file_system(self.uri)
        self._sent: dict[str, tuple[int, int]] = {}

    # ---------------------------------------------------------------- there

    def put_record(self, folder: Path) -> None:
        """Send every file of the record that has changed since it was sent."""
        for name in record_of(folder):
            state = (folder / name).stat()
            version = (state.st_size, state.st_mtime_ns)
            if self._sent.get(name) != version:
                with _place(folder) as pinned:
                    copy = pinned / "record"  # what grows meanwhile is not what was announced
                    shutil.copyfile(folder / name, copy)
                    persistently(partial(self._send, copy, name), StorageError, RETRY_SECONDS)
                self._sent[name] = version

    def put_checkpoint(self, folder: Path, keep_last: int) -> None:
        """Send a checkpoint, verify it there, and delete older ones down to `keep_last`, itself included."""
        with pinned(folder) as copy:
            self.put_folder(copy, f"{CHECKPOINTS}/{folder.name}", read_meta(copy).get("sha256", {}))
        match = STEP.fullmatch(folder.name)
        assert match is not None
        self._prune(int(match[1]), keep_last)

    def put_folder(self, folder: Path, name: str, known: Mapping[str, str] | None = None) -> None:
        """Send a folder and verify it there, unless it is there already.

        Args:
            folder: it does not change meanwhile.
            name: its place in the run's folder.
            known: hashes that files must have here.
        """
        local = {str(file.relative_to(folder)): file for file in sorted(folder.rglob("*")) if file.is_file()}
        files: Files = {n: {"size": f.stat().st_size, "sha256": sha256_of(f)} for n, f in local.items()}
        for each, digest in (known or {}).items():
            if files.get(each, {}).get("sha256") != digest:
                raise StorageError(f"{folder.name}: {each} is damaged on this disk; the mirror keeps what it has")
        if self.manifest(name) == files:
            return
        self._remove(f"{name}/{MANIFEST}")
        for each, expected in files.items():
            put = partial(self._put, local[each], f"{name}/{each}", expected)
            persistently(put, StorageError, RETRY_SECONDS)
        self._write(f"{name}/{MANIFEST}", json.dumps({"files": files}).encode())

    def _put(self, file: Path, name: str, expected: Mapping[str, Any]) -> None:
        self._send(file, name)
        size, digest = self._read(name, lambda _: None)
        if (size, digest) != (expected["size"], expected["sha256"]):
            raise StorageError(f"{self.uri}/{name}: {size} bytes of another content are there after it was sent")

    def _prune(self, newest: int, keep_last: int) -> None:
        """Delete older checkpoints, and what was never finished; `newest`, which was verified just now, stays."""
        older = [step for step in self._listed() if step < newest]
        whole = [step for step in older if self._counts(step)]
        keep = whole[-(keep_last - 1) :] if keep_last > 1 else []
        for step in older:
            if step not in keep:
                place = f"{CHECKPOINTS}/{checkpoint_name(step)}"
                self._remove(f"{place}/{MANIFEST}")  # first: half of it must not be taken for it
                self._remove(place)

    def _listed(self) -> list[int]:
        """The steps of all checkpoints there, whether or not they count, in ascending order."""
        with told(self.uri):
            self._files.invalidate_cache()
            if not self._files.exists(self._at(CHECKPOINTS)):
                return []
            paths = self._files.ls(self._at(CHECKPOINTS), detail=False)
        names = (path.rstrip("/").rpartition("/")[2] for path in paths)
        return sorted(int(match[1]) for name in names if (match := STEP.fullmatch(name)))

    def _counts(self, step: int) -> bool:
        return self.manifest(f"{CHECKPOINTS}/{checkpoint_name(step)}") is not None

    # ---------------------------------------------------------------- and back

    def steps(self) -> list[int]:
        """The steps of the checkpoints that count, in ascending order."""
        return [step for step in self._listed() if self._counts(step)]

    def restore(self, folder: Path) -> list[str]:
        """Bring record, reward model and the newest checkpoint that is whole into an empty folder.

        Returns:
            What whoever resumes the run must know, line by line.

        Raises:
            RecipeError: no checkpoint there can be used.
        """
        with told(self.uri):
            self._files.invalidate_cache()
            stem = f"{self._root.rstrip('/')}/"
            names = [path.removeprefix(stem) for path in self._files.find(self._root)]
        for name in names:
            if "/" not in name or name.startswith("tensorboard/"):
                self._fetch(name, folder / name)
        if self.manifest("reward-model") is not None:
            self.fetch_folder("reward-model", folder / "reward-model")
        notes = []
        for step in reversed(self.steps()):
            place = f"{CHECKPOINTS}/{checkpoint_name(step)}"
            try:
                self.fetch_folder(place, folder / place)
            except StorageError as error:
                shutil.rmtree(folder / place, ignore_errors=True)
                notes.append(f"{error}; an earlier checkpoint is taken")
                continue
            return [*notes, f"{checkpoint_name(step)} and the record of the run are from {self.uri}"]
        raise RecipeError("; ".join([*notes, f"{self.uri}: holds no checkpoint that is whole"]))

    def fetch_folder(self, name: str, place: Path) -> None:
        """Bring a folder that counts; every file is what its manifest says. Raises StorageError where one is not."""
        for each, expected in (self.manifest(name) or {}).items():
            if self._fetch(f"{name}/{each}", place / each) != (expected["size"], expected["sha256"]):
                raise StorageError(f"{self.uri}/{name}: {each} is damaged there")

    def manifest(self, name: str) -> Files | None:
        """What a folder holds; None where it does not count."""
        try:
            with told(self.uri):
                found = json.loads(self._files.cat_file(self._at(f"{name}/{MANIFEST}")))["files"]
        except (RecipeError, ValueError, KeyError):
            return None
        return dict(found)

    # ---------------------------------------------------------------- one file

    def _at(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _send(self, file: Path, name: str) -> None:
        with told(self.uri):
            if not _FLAT.intersection(protocols(self._files)):
                self._files.makedirs(self._at(name).rpartition("/")[0], exist_ok=True)
            self._files.put_file(str(file), self._at(name))

    def _write(self, name: str, content: bytes) -> None:
        with told(self.uri):
            self._files.pipe_file(self._at(name), content)
            self._files.invalidate_cache()

    def _read(self, name: str, write: Callable[[bytes], object]) -> tuple[int, str]:
        """Size and hash of a file there, whose content is handed to `write`."""
        digest, size = hashlib.sha256(), 0
        with told(self.uri):
            self._files.invalidate_cache()
            with self._files.open(self._at(name), "rb", block_size=_BLOCK_BYTES) as file:
                while block := file.read(_BLOCK_BYTES):
                    digest.update(block)
                    size += len(block)
                    write(block)
        return size, digest.hexdigest()

    def _fetch(self, name: str, place: Path) -> tuple[int, str]:
        if ".." in PurePosixPath(name).parts:
            raise RecipeError(f"{self.uri}: holds {name!r}, which would be written outside of its folder")
        place.parent.mkdir(parents=True, exist_ok=True)

        def fetch() -> tuple[int, str]:
            with place.open("wb") as file:
                return self._read(name, file.write)

        return persistently(fetch, StorageError, RETRY_SECONDS)

    def _remove(self, name: str) -> None:
        with told(self.uri):
            try:
                self._files.rm(self._at(name), recursive=True)
            except FileNotFoundError:
                return


def mirror_of(place: Path | Uri, run: str) -> Uri:
    """The folder of a run in a mirror."""
    return Uri(f"{f'file://{place}' if isinstance(place, Path) else place.rstrip('/')}/{run}")


def record_of(folder: Path) -> list[str]:
    """The files of a run's record, by their names in its folder; the recipe first, without which there is no run."""
    found = {path for pattern in _RECORD for path in folder.glob(pattern) if path.is_file()}
    names = sorted(str(path.relative_to(folder)) for path in found)
    public = [name for name in names if name not in _PRIVATE and not name.startswith(".")]
    return sorted(public, key=lambda name: name != "recipe.yaml")


@contextmanager
def pinned(folder: Path) -> Iterator[Path]:
    """A checkpoint that stays while it is sent, though the learner deletes it: its files have a second name."""
    with _place(folder.parent.parent) as place:
        yield place if _linked(folder, place) else folder


@contextmanager
def _place(folder: Path) -> Iterator[Path]:
    """An empty folder in the run folder, for as long as something is on its way."""
    place = folder / PINNED
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _linked(folder: Path, copy: Path) -> bool:
    """False on storage that has no links, or where the folder is gone, which whoever reads it finds out."""
    try:
        for file in folder.rglob("*"):
            if file.is_file():
                second = copy / file.relative_to(folder)
                second.parent.mkdir(parents=True, exist_ok=True)
                os.link(file, second)
    except OSError:
        return False
    return True
