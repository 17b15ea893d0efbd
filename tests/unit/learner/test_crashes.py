"""A process that dies before any of its file operations leaves a whole checkpoint, the old one or the new one."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from learner import LearnerConfig, OptimizerConfig, Trainer
from learner.extra import checkpoints, damage, read_extra, update_extra
from learner.files import staged, tidy, write_atomically
from tests.unit.learner.conftest import GroupFactory

CONFIG = LearnerConfig(
    dtype="float32", device="cpu", optimizer=OptimizerConfig(learning_rate=1e-3), checkpoint_keep_last=1
)
CHANGES = frozenset({"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.link"})
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class DeadError(BaseException):
    """Not an Exception: nothing cleans up behind a process that was killed."""


class Crash:
    """Lets file operations below a folder fail from the one with a given number on, as if the process was dead."""

    def __init__(self) -> None:
        self._folder, self._left, self.dead = "", 0, False
        sys.addaudithook(self._hook)  # stays for good; outside of `at` it does nothing

    @contextmanager
    def at(self, folder: Path, operation: int) -> Iterator[None]:
        self._folder, self._left, self.dead = str(folder), operation, False
        try:
            yield
        except BaseException:
            if not self.dead:
                raise
        finally:
            self._folder = ""

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._folder and (event in CHANGES or (event == "open" and _writes(*arguments[1:]))):
            relative = event in ("os.remove", "os.rmdir") and arguments[1] != -1  # to a folder that is being deleted
            if not relative and not str(arguments[0]).startswith(self._folder):
                return
            self._left -= 1
            if self._left < 0:
                self.dead = True
                raise DeadError(f"{event} {arguments}")


def _writes(mode: str | None, flags: int) -> bool:
    return bool(set(mode or "") & set("wax+")) or bool(mode is None and flags & WRITES)


CRASH = Crash()


def crashes(folder: Path, work: Callable[[], Any], check: Callable[[], None]) -> int:
    """Do `work` again and again, dead from one operation later each time, until it is done; `check` after each."""
    for operation in range(1000):
        with CRASH.at(folder, operation):
            work()
        check()
        if not CRASH.dead:
            return operation
    pytest.fail("it never came to an end")


def newest(parent: Path) -> Path:
    """What a run resumes from."""
    tidy(parent)
    return [path for path in checkpoints(parent).values() if damage(path) is None][-1]


def state_of(trainer: Trainer) -> list[torch.Tensor]:
    moments = [tensor for state in trainer.optimizer.state.values() for tensor in state.values()]
    return [tensor.detach().clone() for tensor in (*trainer.model.parameters(), *moments)]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("later", [1, 0])  # the next step's, or the same step's once more
def test_whenever_a_checkpoints_writer_dies_there_is_a_whole_one(
    tiny_model: Path, make_groups: GroupFactory, tmp_path: Path, later: int
) -> None:
    trainer, reader = (Trainer(CONFIG, tiny_model, seed=0) for _ in range(2))
    parent, states = tmp_path / "checkpoints", {}
    for version in (0, 1):
        trainer.train_step(make_groups(seed=version))
        states[version] = state_of(trainer)
        trainer.save(tmp_path / "kept" / f"state-{version}", {"number": version})
    old, new = parent / "step-000000", parent / f"step-{later:06d}"
    found = set()

    def save() -> None:
        trainer.load(tmp_path / "kept" / "state-1")
        trainer.save(new, {"number": 1})

    def check() -> None:
        number = reader.load(newest(parent))["number"]
        found.add(number)
        assert all(torch.equal(a, b) for a, b in zip(state_of(reader), states[number], strict=True))
        if number == 1:  # begin anew with the old one
            trainer.load(tmp_path / "kept" / "state-0")
            shutil.rmtree(parent)
            trainer.save(old, {"number": 0})

    trainer.load(tmp_path / "kept" / "state-0")
    trainer.save(old, {"number": 0})
    assert crashes(parent, save, check) > 10
    assert found == {0, 1}


def test_whenever_something_is_added_to_a_checkpoint_it_is_whole(tmp_path: Path) -> None:
    write_atomically(tmp_path / "learner.json", '{"files": {}, "extra": {"a": 0}}')
    found = set()

    def check() -> None:
        assert damage(tmp_path) is None
        found.add(read_extra(tmp_path)["a"])

    assert crashes(tmp_path, lambda: update_extra(tmp_path, {"a": 1}), check) == 2
    assert found == {0, 1}


def test_whenever_the_writer_of_a_folder_dies_the_folder_is_whole(tmp_path: Path) -> None:
    folder, numbers = tmp_path / "model", iter(range(1000))

    def write() -> None:
        with staged(folder) as staging:
            for name in "ab":
                (staging / name).write_text(str(number))

    def check() -> None:
        tidy(tmp_path)
        texts = {path.read_text() for path in folder.iterdir()}
        assert [path.name for path in tmp_path.iterdir()] == ["model"]
        assert len(list(folder.iterdir())) == 2 and len(texts) == 1
        nonlocal number
        number = next(numbers)

    number = next(numbers)
    write()
    assert crashes(tmp_path, write, check) > 6
