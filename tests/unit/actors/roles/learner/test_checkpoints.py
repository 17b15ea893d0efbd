"""The learner's checkpoints, on a disk that fills up and is cleared again."""

from concurrent.futures import Future

import pytest

from actors.roles.learner import checkpoints
from actors.roles.learner.checkpoints import Checkpoints
from learner import CheckpointError


class Disk:
    """Writes when it is told to; `full` makes it fail, at once or in the background."""

    def __init__(self) -> None:
        self.futures: dict[int, Future[None]] = {}
        self.full_at_once = False
        self.committed: list[int] = []
        self.told: list[str] = []
        self.checkpoints = Checkpoints(self._save, self.committed.append, self.told.append)

    def _save(self, version: int) -> Future[None]:
        if self.full_at_once:
            raise CheckpointError("could not write checkpoint step-7: no room")
        return self.futures.setdefault(version, Future())

    def write(self, version: int, fails: bool = False) -> None:
        if fails:
            self.futures.pop(version).set_exception(CheckpointError(f"could not write checkpoint step-{version}: full"))
        else:
            self.futures.pop(version).set_result(None)


def test_only_what_is_durable_is_committed_and_in_order() -> None:
    disk = Disk()
    disk.checkpoints.begin(1)
    disk.checkpoints.begin(2)
    disk.checkpoints.settle()
    assert disk.committed == [] and disk.checkpoints.durable is None
    disk.write(2)
    disk.checkpoints.settle()
    assert disk.committed == [], "an older one is still being written"
    disk.write(1)
    disk.checkpoints.settle()
    assert disk.committed == [1, 2] and disk.checkpoints.durable == 2
    assert disk.told == []


def test_one_that_fails_is_told_of_and_the_next_one_is_tried() -> None:
    disk = Disk()
    disk.checkpoints.begin(5)
    disk.write(5, fails=True)
    disk.checkpoints.settle()
    assert disk.committed == [] and disk.told == ["step-5: full"]
    assert disk.checkpoints.failure is not None
    disk.checkpoints.begin(10)
    disk.write(10)
    disk.checkpoints.settle(wait=True)
    assert disk.committed == [10] and disk.told == ["step-5: full", ""]
    assert disk.checkpoints.failure is None, "nothing is missing any more"


def test_an_older_one_that_is_written_late_hides_no_newer_failure() -> None:
    disk = Disk()
    disk.checkpoints.begin(5)
    disk.full_at_once = True
    disk.checkpoints.begin(7)
    disk.write(5)
    disk.checkpoints.settle()
    assert disk.committed == [5] and disk.told == ["step-7: no room"]
    assert disk.checkpoints.failure is not None


def test_one_that_cannot_even_be_begun_is_the_same() -> None:
    disk = Disk()
    disk.full_at_once = True
    disk.checkpoints.begin(7)
    disk.checkpoints.settle(wait=True)
    assert disk.told == ["step-7: no room"]
    assert disk.checkpoints.durable is None and disk.checkpoints.failure is not None


def test_one_that_is_never_written_is_told_of_by_name_and_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "WRITE_TIMEOUT_SECONDS", 0.01)
    disk = Disk()
    disk.checkpoints.begin(7)
    disk.checkpoints.settle(wait=True)
    assert disk.told == ["step-000007: it is still being written after 0.01 s"]
    assert disk.committed == [] and disk.checkpoints.failure is not None
