"""A run's mirror: what counts there was verified there, the only good checkpoint stays, and a run comes back."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from actors.errors import RecipeError, StorageError
from actors.storage import mirror as mirrors
from actors.storage.mirror import MANIFEST, PINNED, Mirror, mirror_of, record_of
from actors.storage.uris import Uri
from learner.extra import META, checkpoint_name
from learner.files import sha256_of

PLACE = Uri("memory://mirror")


@pytest.fixture(autouse=True)
def _short_patience_and_an_empty_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(mirrors, "RETRY_SECONDS", 0.0)
    MemoryFileSystem.store.clear()
    yield
    MemoryFileSystem.store.clear()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run-1"
    folder.mkdir()
    for name in ("recipe.yaml", "metrics.jsonl", "summary.json", "controller.json", "token", "run.lock"):
        (folder / name).write_text(name)
    (folder / "tensorboard" / "pools").mkdir(parents=True)
    (folder / "tensorboard" / "pools" / "events").write_text("events")
    return folder


def checkpoint(run: Path, step: int) -> Path:
    folder = run / "checkpoints" / checkpoint_name(step)
    folder.mkdir(parents=True)
    (folder / "shard").write_bytes(b"%d" % step * 1000)
    meta = {"files": {"shard": (folder / "shard").stat().st_size}, "sha256": {"shard": sha256_of(folder / "shard")}}
    (folder / META).write_text(json.dumps(meta))
    return folder


def mirror() -> Mirror:
    return Mirror(mirror_of(PLACE, "run-1"))


@pytest.fixture(params=["memory", "file"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Uri:
    return PLACE if request.param == "memory" else Uri(f"file://{tmp_path}/mirror")


def test_a_run_comes_back_with_its_record_and_its_newest_checkpoint(run: Path, tmp_path: Path, place: Uri) -> None:
    there = Mirror(mirror_of(place, "run-1"))
    there.put_record(run)
    (run / "reward-model").mkdir()
    (run / "reward-model" / "config.json").write_text("{}")
    there.put_folder(run / "reward-model", "reward-model")
    for step in (20, 40):
        there.put_checkpoint(checkpoint(run, step), keep_last=3)
    assert there.steps() == [20, 40]
    back = tmp_path / "back"
    back.mkdir()
    (note,) = Mirror(mirror_of(place, "run-1")).restore(back)
    assert "step-000040" in note
    found = {str(path.relative_to(back)) for path in back.rglob("*") if path.is_file()}
    newest = {f"checkpoints/step-000040/{name}" for name in ("shard", META)}
    record = {"recipe.yaml", "metrics.jsonl", "summary.json", "tensorboard/pools/events"}
    assert found == {*record, *newest, "reward-model/config.json"}
    assert (back / "checkpoints" / "step-000040" / "shard").read_bytes() == b"40" * 1000
    assert not (run / PINNED).exists()


def test_the_record_holds_no_token_no_lock_and_no_address(run: Path) -> None:
    assert record_of(run) == ["recipe.yaml", "metrics.jsonl", "summary.json", "tensorboard/pools/events"]


def test_a_file_that_does_not_change_is_sent_once(run: Path) -> None:
    there = mirror()
    there.put_record(run)
    files = fsspec.filesystem("memory")
    files.pipe("/mirror/run-1/summary.json", b"somebody else's")
    (run / "metrics.jsonl").write_text("longer than before")
    there.put_record(run)
    assert files.cat("/mirror/run-1/summary.json") == b"somebody else's"
    assert files.cat("/mirror/run-1/metrics.jsonl") == b"longer than before"


def test_only_so_many_are_kept_and_what_was_never_finished_goes(run: Path) -> None:
    there = mirror()
    files = fsspec.filesystem("memory")
    files.pipe("/mirror/run-1/checkpoints/step-000010/shard", b"half")
    for step in (20, 40, 60):
        there.put_checkpoint(checkpoint(run, step), keep_last=2)
    assert there.steps() == [40, 60]
    assert sorted(path.rpartition("/")[2] for path in files.ls("/mirror/run-1/checkpoints", detail=False)) == [
        "step-000040",
        "step-000060",
    ]


class Corrupting(MemoryFileSystem):
    """What arrives is as long as what was sent, and something else."""

    broken = False

    def put_file(self, lpath: str, rpath: str, **more: Any) -> None:
        super().put_file(lpath, rpath, **more)
        if self.broken and rpath.endswith("shard"):
            self.pipe_file(rpath, b"x" * Path(lpath).stat().st_size)


def corrupting() -> tuple[Mirror, Corrupting]:
    there, files = mirror(), Corrupting(skip_instance_cache=True)
    there._files = files
    return there, files


def test_a_checkpoint_that_arrives_damaged_does_not_count_and_the_only_good_one_stays(run: Path) -> None:
    there, files = corrupting()
    there.put_checkpoint(checkpoint(run, 20), keep_last=1)
    files.broken = True
    with pytest.raises(StorageError, match="step-000040/shard: 2000 bytes of another content"):
        there.put_checkpoint(checkpoint(run, 40), keep_last=1)
    assert there.steps() == [20]
    files.broken = False
    there.put_checkpoint(run / "checkpoints" / checkpoint_name(40), keep_last=1)
    assert there.steps() == [40]


def test_what_is_damaged_here_replaces_nothing_there(run: Path) -> None:
    there = mirror()
    there.put_checkpoint(checkpoint(run, 20), keep_last=1)
    (checkpoint(run, 40) / "shard").write_bytes(b"04" * 1000)
    with pytest.raises(StorageError, match="shard is damaged on this disk"):
        there.put_checkpoint(run / "checkpoints" / checkpoint_name(40), keep_last=1)
    assert there.steps() == [20]


def test_a_checkpoint_that_has_rotted_there_is_passed_over(run: Path, tmp_path: Path) -> None:
    there = mirror()
    there.put_record(run)
    for step in (20, 40):
        there.put_checkpoint(checkpoint(run, step), keep_last=3)
    fsspec.filesystem("memory").pipe("/mirror/run-1/checkpoints/step-000040/shard", b"04" * 1000)
    damaged, note = mirror().restore(tmp_path / "back")
    assert "step-000040: shard is damaged" in damaged and "step-000020" in note
    assert [path.name for path in (tmp_path / "back" / "checkpoints").iterdir()] == ["step-000020"]
    fsspec.filesystem("memory").rm(f"/mirror/run-1/checkpoints/step-000020/{MANIFEST}")
    with pytest.raises(RecipeError, match="holds no checkpoint that is whole"):
        mirror().restore(tmp_path / "again")


def test_a_checkpoint_that_is_deleted_while_it_is_sent_arrives_whole(run: Path) -> None:
    there, files = corrupting()
    folder = checkpoint(run, 20)
    put = files.put_file

    def put_file(lpath: str, rpath: str, **more: Any) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        put(lpath, rpath, **more)

    files.put_file = put_file  # type: ignore[method-assign]
    there.put_checkpoint(folder, keep_last=1)
    assert there.steps() == [20]
