"""Folders that are whole or absent, whatever instant a crash comes at."""

from pathlib import Path

import pytest

from learner.files import staged, staging_of, tidy


def filled(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "file").write_text(text)
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    filled(tmp_path / "model", "old")
    with staged(tmp_path / "model") as staging:
        (staging / "file").write_text("new")
        assert (tmp_path / "model" / "file").read_text() == "old"
    assert (tmp_path / "model" / "file").read_text() == "new"
    assert names(tmp_path) == ["model"]


def test_what_fails_leaves_the_old_one_alone(tmp_path: Path) -> None:
    filled(tmp_path / "model", "old")
    with pytest.raises(OSError, match="full"), staged(tmp_path / "model") as staging:
        (staging / "file").write_text("ne")
        raise OSError("the disk is full")
    assert (tmp_path / "model" / "file").read_text() == "old"
    assert names(tmp_path) == ["model"]


def test_what_a_crash_left_half_written_goes(tmp_path: Path) -> None:
    filled(tmp_path / "model", "whole")
    filled(staging_of(tmp_path / "model"), "half")
    (tmp_path / ".summary.json.tmp").write_text("half")
    (tmp_path / ".hidden").write_text("not ours")
    tidy(tmp_path)
    assert names(tmp_path) == [".hidden", "model"]


def test_a_crash_between_the_two_renames_loses_nothing(tmp_path: Path) -> None:
    filled(tmp_path / ".step-000041.old-0a1b2c3d", "the only good one")
    filled(staging_of(tmp_path / "step-000041"), "its successor")
    filled(tmp_path / "step-000020", "its own successor")
    filled(tmp_path / ".step-000020.old-0a1b2c3d", "retired")
    tidy(tmp_path)
    assert names(tmp_path) == ["step-000020", "step-000041"]
    assert (tmp_path / "step-000041" / "file").read_text() == "the only good one"
    assert (tmp_path / "step-000020" / "file").read_text() == "its own successor"
