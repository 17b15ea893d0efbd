"""What is read of a checkpoint without torch."""

import json
from pathlib import Path

import pytest

from learner import CheckpointError
from learner.extra import META, read_extra


def test_what_the_caller_stored_is_read_back(tmp_path: Path) -> None:
    (tmp_path / META).write_text(json.dumps({"format": 1, "version": 3, "extra": {"replay": {"cursor": 9}}}))
    assert read_extra(tmp_path) == {"replay": {"cursor": 9}}


@pytest.mark.parametrize("text", [None, "", "{", "{}"])
def test_what_is_no_checkpoint_says_so(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / META).write_text(text)
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        read_extra(tmp_path)
