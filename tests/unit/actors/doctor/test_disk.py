"""What is found out about a disk by writing to it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.config.loading import load
from actors.config.recipe import Recipe
from actors.doctor import disk
from actors.doctor.findings import Fitness

QUICKSTART = Path(__file__).parents[4] / "recipes" / "quickstart.yaml"


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(disk, "CHECKPOINT_BYTES", 4 * 2**20)
    yield


def recipe(folder: Path, *overrides: str) -> Recipe:
    return load(QUICKSTART, [f"output={folder}", *overrides])


def test_what_is_written_to_measure_a_disk_does_not_stay(tmp_path: Path) -> None:
    assert "MB/s" in disk.disk(tmp_path / "runs").measured
    assert "MB/s" in disk.checkpoint(recipe(tmp_path / "runs")).measured
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_disk_that_is_nearly_full_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "DISK_BYTES", 2**60)
    found = disk.disk(tmp_path)
    assert found.fitness is Fitness.WARNING and "output" in found.advice


def test_a_checkpoint_holds_weights_moments_and_the_reference(tmp_path: Path) -> None:
    alone = disk.checkpoint_bytes(recipe(tmp_path))
    kl = ["learner.objective.kl=k3", "learner.objective.kl_coefficient=0.1"]
    assert alone is not None and disk.checkpoint_bytes(recipe(tmp_path, *kl)) == alone // 3 * 4
    assert disk.checkpoint_bytes(recipe(tmp_path, "learner.lora.rank=8")) == alone // 3


def test_a_checkpoint_that_a_stopping_learner_has_no_time_for_is_said(tmp_path: Path) -> None:
    found = disk.checkpoint(recipe(tmp_path, "controller.stop_seconds=1e-9"))
    assert found.fitness is Fitness.WARNING and "controller.stop_seconds" in found.advice


def test_checkpoints_that_have_no_room_are_said(tmp_path: Path) -> None:
    found = disk.checkpoint(recipe(tmp_path, "learner.checkpoint_keep_last=1000000000"))
    assert found.fitness is Fitness.FAILED and "output" in found.advice


def test_a_model_that_is_not_here_has_no_size(tmp_path: Path) -> None:
    found = disk.checkpoint(recipe(tmp_path, "model={kind: folder, path: owner/name}"))
    assert found.fitness is Fitness.OK and "not known" in found.measured
