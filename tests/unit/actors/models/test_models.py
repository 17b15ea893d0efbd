"""Model folders: made once, complete, and refused where they cannot be had."""

from pathlib import Path

import pytest

from actors.config.model import FolderModel, TinyModel
from actors.errors import RecipeError
from actors.models import prepare, tiny

SMALL = TinyModel(kind="tiny", hidden_size=64, heads=2, intermediate_size=64, layers=1)


def test_preparing_twice_keeps_the_folder(tmp_path: Path) -> None:
    folder = prepare(SMALL, tmp_path, 0)
    stamp = (folder / "model.safetensors").stat().st_mtime_ns
    assert prepare(SMALL, tmp_path, 0) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == stamp


def test_a_failure_leaves_nothing_that_looks_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_config: TinyModel, folder: Path, _seed: int) -> None:
        (folder / "config.json").write_text("{}")
        raise OSError("disk full")

    monkeypatch.setattr(tiny, "write", fail)
    with pytest.raises(OSError, match="disk full"):
        prepare(SMALL, tmp_path, 0)
    assert list(tmp_path.iterdir()) == []


def test_whoever_finishes_second_takes_the_firsts_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def overtaken(_config: TinyModel, folder: Path, _seed: int) -> None:
        (folder / "config.json").write_text("second")
        first = tmp_path / folder.name[1:].rsplit(".", 1)[0]
        first.mkdir()
        (first / "config.json").write_text("first")

    monkeypatch.setattr(tiny, "write", overtaken)
    folder = prepare(SMALL, tmp_path, 0)
    assert (folder / "config.json").read_text() == "first"
    assert list(tmp_path.iterdir()) == [folder]


def test_an_existing_folder_is_used_as_it_is(tmp_path: Path) -> None:
    folder = prepare(SMALL, tmp_path, 0)
    assert prepare(FolderModel(path=str(folder)), tmp_path, 0) == folder
    with pytest.raises(RecipeError, match=r"holds no config.json"):
        prepare(FolderModel(path=str(tmp_path)), tmp_path, 0)
    with pytest.raises(RecipeError, match=r"model.path: there is no folder"):
        prepare(FolderModel(path=str(tmp_path / "absent")), tmp_path, 0)


def test_a_model_that_the_hub_does_not_give_is_a_recipe_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(RecipeError, match=r"nobody/nothing is no folder here and cannot be fetched from the hub"):
        prepare(FolderModel(path="nobody/nothing"), tmp_path, 0)
