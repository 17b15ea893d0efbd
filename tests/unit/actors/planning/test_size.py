"""How large a model is, from what is written of it."""

import json
from pathlib import Path

import pytest

from actors.config.model import FolderModel, TinyModel
from actors.errors import RecipeError
from actors.models import prepare
from actors.planning.size import parameter_count


def test_a_tiny_model_has_as_many_parameters_as_its_file_holds(tmp_path: Path) -> None:
    config = TinyModel(kind="tiny", hidden_size=64, layers=3, heads=2, intermediate_size=96)
    folder = prepare(config, tmp_path, seed=0)
    assert parameter_count(config) == parameter_count(FolderModel(path=str(folder)))


def test_all_files_of_a_folder_count(tmp_path: Path) -> None:
    header = json.dumps({"__metadata__": {"format": "pt"}, "w": {"dtype": "BF16", "shape": [3, 5]}}).encode()
    for number in (1, 2):
        (tmp_path / f"model-{number}.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    assert parameter_count(FolderModel(path=str(tmp_path))) == 30


def test_a_name_on_the_hub_has_no_size_yet() -> None:
    assert parameter_count(FolderModel(path="owner/name")) is None


@pytest.mark.parametrize("data", [b"\xff" * 16, (5).to_bytes(8, "little") + b"nonsense", b""])
def test_a_file_that_is_none_is_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(RecipeError, match=r"model\.safetensors"):
        parameter_count(FolderModel(path=str(tmp_path)))
