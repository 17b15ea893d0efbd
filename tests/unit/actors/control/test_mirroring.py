"""The mirror of a run that goes on: what fails there is told, and ends nothing."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from actors.config.storage import StorageConfig
from actors.control.mirroring import Mirroring
from actors.deadline import until
from actors.errors import StorageError
from actors.events import MIRROR
from actors.storage import mirror as mirrors
from actors.storage.mirror import Mirror, mirror_of
from actors.storage.uris import Uri
from learner.extra import META, checkpoint_name

PLACE = Uri("memory://mirror")
SECONDS = 60.0


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
    for name in ("recipe.yaml", "metrics.jsonl", "summary.json"):
        (folder / name).write_text(name)
    return folder


def checkpoint(run: Path, step: int) -> None:
    folder = run / "checkpoints" / checkpoint_name(step)
    staging = folder.with_name(f".{folder.name}.tmp")
    staging.mkdir(parents=True)
    (staging / META).write_text(json.dumps({"files": {}}))
    staging.rename(folder)


def mirror() -> Mirror:
    return Mirror(mirror_of(PLACE, "run-1"))


@pytest.fixture
def mirrored(run: Path) -> Iterator[Callable[..., Mirroring]]:
    """Makes the mirroring of the run, which ends with the test."""
    with ExitStack() as open_:

        def make(stopped: bool = False, **settings: Any) -> Mirroring:
            asked = {"mirror": PLACE, "keep_last": 2, "interval_seconds": 0.01, "finish_seconds": SECONDS, **settings}
            return open_.enter_context(closing(Mirroring(StorageConfig.model_validate(asked), run, lambda: stopped)))

        yield make
    for thread in threading.enumerate():
        if thread.name == "mirror":
            thread.join(SECONDS)


def test_a_run_is_mirrored_while_it_goes_on_and_to_its_end(run: Path, mirrored: Callable[..., Mirroring]) -> None:
    mirroring = mirrored()
    checkpoint(run, 20)
    assert until(lambda: mirror().steps() == [20], SECONDS)
    checkpoint(run, 40)
    (run / "model").mkdir()
    (run / "model" / "weights").write_text("weights")
    (run / "summary.json").write_text("finished")
    mirroring.settle(finished=True, seconds=0.0)
    assert mirror().steps() == [20, 40]
    files = fsspec.filesystem("memory")
    assert files.cat("/mirror/run-1/model/weights") == b"weights"
    assert files.cat("/mirror/run-1/summary.json") == b"finished"
    assert mirroring.news() == []


def test_a_storage_that_fails_is_told_once_ends_nothing_and_is_told_of_when_it_is_back(
    mirrored: Callable[..., Mirroring], monkeypatch: pytest.MonkeyPatch
) -> None:
    send, broken = Mirror._send, [True]

    def _send(self: Mirror, file: Path, name: str) -> None:
        if broken:
            raise StorageError(f"{self.uri}: 503")
        send(self, file, name)

    monkeypatch.setattr(Mirror, "_send", _send)
    mirroring = mirrored(finish_seconds=0.0)
    found = []
    assert until(lambda: bool(found.extend(mirroring.news()) or found), SECONDS)
    with pytest.raises(StorageError, match=r"not everything is mirrored.*503.*has all of it"):
        mirroring.settle(finished=True, seconds=0.0)
    mirroring.settle(finished=False, seconds=0.0)  # an interrupted run has no time, and goes on elsewhere
    broken.clear()
    assert until(lambda: len(found.extend(mirroring.news()) or found) == 2, SECONDS)
    assert [(event.what, bool(event.reason)) for event in found] == [(MIRROR, True), (MIRROR, False)]


def test_without_a_mirror_nothing_is_waited_for(mirrored: Callable[..., Mirroring]) -> None:
    mirroring = mirrored(mirror=None)
    mirroring.settle(finished=True, seconds=0.0)
    assert mirroring.news() == []


def test_a_run_that_is_told_to_stop_waits_no_longer(
    mirrored: Callable[..., Mirroring], monkeypatch: pytest.MonkeyPatch
) -> None:
    def _send(self: Mirror, file: Path, name: str) -> None:
        raise StorageError(f"{self.uri}/{name}: 503, {file}")

    monkeypatch.setattr(Mirror, "_send", _send)
    with pytest.raises(StorageError, match="not everything is mirrored"):
        mirrored(stopped=True).settle(finished=True, seconds=0.0)
