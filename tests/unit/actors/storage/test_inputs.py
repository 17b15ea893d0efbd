"""Inputs that are URIs: fetched once, whole or not at all, and again where their content has changed."""

import multiprocessing
import os
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from actors.deadline import until
from actors.errors import RecipeError, StorageError
from actors.storage import inputs
from actors.storage.inputs import CACHE, fetch, local
from actors.storage.uris import Uri

DATA = Uri("memory://data/train.jsonl")
MODEL = Uri("memory://models/a")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    inputs._fetched.cache_clear()
    yield tmp_path / "cache"
    inputs._fetched.cache_clear()
    MemoryFileSystem.store.clear()


@pytest.fixture
def memory() -> Any:
    files = fsspec.filesystem("memory")
    files.pipe({"/data/train.jsonl": b"one", "/models/a/config.json": b"{}", "/models/a/deep/weights": b"w" * 1000})
    return files


def test_a_path_is_itself(tmp_path: Path) -> None:
    assert local(tmp_path / "absent") == tmp_path / "absent"


def test_a_file_of_this_machine_is_read_where_it_is(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "a.jsonl").write_text("one")
    assert local(Uri(f"file://{tmp_path}/a.jsonl")) == tmp_path / "a.jsonl"
    assert not cache.exists()


@pytest.mark.usefixtures("memory")
def test_a_file_is_fetched_under_its_own_name(cache: Path) -> None:
    place = local(DATA)
    assert place.name == "train.jsonl" and place.read_text() == "one"
    assert place.is_relative_to(cache)


@pytest.mark.usefixtures("memory")
def test_a_folder_is_fetched_with_all_that_is_below() -> None:
    place = local(MODEL)
    assert place.name == "a" and (place / "config.json").read_text() == "{}"
    assert (place / "deep" / "weights").read_bytes() == b"w" * 1000


def test_a_process_keeps_what_it_has_and_the_next_one_gets_what_is_there_by_then(memory: Any) -> None:
    before = local(DATA)
    memory.pipe("/data/train.jsonl", b"two")
    assert local(DATA) == before and before.read_text() == "one"
    inputs._fetched.cache_clear()  # as in another process
    assert local(DATA).read_text() == "two"
    assert before.read_text() == "one"


@pytest.mark.usefixtures("memory")
def test_what_is_there_is_not_fetched_again_and_what_was_tidied_away_is() -> None:
    fetched: list[str] = []

    class Counting(MemoryFileSystem):
        def get_file(self, rpath: str, lpath: str, **more: Any) -> None:
            fetched.append(rpath)
            super().get_file(rpath, lpath, **more)

    files = Counting(skip_instance_cache=True)
    place = fetch(MODEL, files, "/models/a")
    assert fetch(MODEL, files, "/models/a") == place
    assert len(fetched) == 2
    (place / "deep" / "weights").unlink()
    assert fetch(MODEL, files, "/models/a") == place
    assert (place / "deep" / "weights").exists()


class Broken(MemoryFileSystem):
    """Gives the first bytes of a file alone, and then breaks, or says nothing of it."""

    breaks = True

    def get_file(self, rpath: str, lpath: str, **_: Any) -> None:
        Path(lpath).write_bytes(self.cat_file(rpath)[:10])
        if self.breaks:
            raise ConnectionResetError("connection reset by peer")


@pytest.mark.parametrize("breaks", [True, False])
def test_a_part_of_a_file_is_never_taken_for_it(memory: Any, cache: Path, breaks: bool) -> None:
    files = Broken(skip_instance_cache=True)
    files.breaks = breaks
    with pytest.raises(StorageError, match="connection reset" if breaks else "10 bytes came of 1000"):
        fetch(MODEL, files, "/models/a")
    assert [path for path in cache.rglob("*") if not path.name.endswith(".lock")] == []
    assert (fetch(MODEL, memory, "/models/a") / "deep" / "weights").stat().st_size == 1000


@pytest.mark.usefixtures("memory")
def test_what_changes_meanwhile_is_not_mixed() -> None:
    class Changing(MemoryFileSystem):
        def get_file(self, rpath: str, lpath: str, **more: Any) -> None:
            super().get_file(rpath, lpath, **more)
            self.pipe("/models/a/deep/weights", b"v" * 1000)

    with pytest.raises(StorageError, match="changed while it was fetched"):
        fetch(MODEL, Changing(skip_instance_cache=True), "/models/a")


@pytest.mark.usefixtures("memory")
def test_what_is_not_there_and_what_would_leave_its_folder_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"memory://data/absent: there is no such"):
        local(Uri("memory://data/absent"))

    class Climbing(MemoryFileSystem):
        def find(self, path: str, *_: Any, **__: Any) -> Any:
            return {f"{path}/../../escaped": {"size": 1, "type": "file"}}

    with pytest.raises(RecipeError, match="outside of its folder"):
        fetch(MODEL, Climbing(skip_instance_cache=True), "/models/a")


class Slow(LocalFileSystem):
    """Notes every download in a file, and is slow enough for others to come meanwhile."""

    def get_file(self, rpath: str, lpath: str, **more: Any) -> None:
        with (Path(rpath).parent / "downloads").open("a") as file:
            file.write(f"{os.getpid()}\n")
        assert until(lambda: (Path(rpath).parent / "go").exists(), 60)
        super().get_file(rpath, lpath, **more)


def _fetch_slowly(path: str) -> None:
    place = fetch(Uri("slow://data"), Slow(skip_instance_cache=True), path)
    assert place.read_text() == "one"


def test_processes_of_one_machine_fetch_once_also_where_the_first_is_killed(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("one")
    downloads = tmp_path / "downloads"
    spawn = multiprocessing.get_context("fork")
    first = spawn.Process(target=_fetch_slowly, args=(str(tmp_path / "data"),))
    first.start()
    assert until(downloads.exists, 60)
    others = [spawn.Process(target=_fetch_slowly, args=(str(tmp_path / "data"),)) for _ in range(3)]
    for other in others:
        other.start()
    first.kill()
    first.join(60)
    assert until(lambda: len(downloads.read_text().splitlines()) == 2, 60), "nobody takes the dead one's place"
    (tmp_path / "go").touch()
    for other in others:
        other.join(60)
        assert other.exitcode == 0
    assert len(downloads.read_text().splitlines()) == 2


def test_a_file_of_a_web_server_is_fetched(tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "train.jsonl").write_text("one")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        stem = f"http://127.0.0.1:{server.server_port}"
        assert local(Uri(f"{stem}/train.jsonl")).read_text() == "one"
        with pytest.raises(RecipeError, match="there is no such file"):
            local(Uri(f"{stem}/absent.jsonl"))
        server.shutdown()
