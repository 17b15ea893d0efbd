"""What is read of a checkpoint without torch."""

import json
from pathlib import Path

import pytest

from learner import CheckpointError
from learner.extra import META, checkpoint_name, checkpoints, damage, read_extra, update_extra
from learner.files import sha256_of


def test_what_the_caller_stored_is_read_back(tmp_path: Path) -> None:
    (tmp_path / META).write_text(json.dumps({"format": 1, "version": 3, "extra": {"replay": {"cursor": 9}}}))
    assert read_extra(tmp_path) == {"replay": {"cursor": 9}}


@pytest.mark.parametrize("text", [None, "", "{", "{}"])
def test_what_is_no_checkpoint_says_so(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / META).write_text(text)
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        read_extra(tmp_path)


def test_what_is_added_later_leaves_the_rest_as_it_was(tmp_path: Path) -> None:
    (tmp_path / META).write_text(json.dumps({"format": 1, "files": {}, "extra": {"replay": {"cursor": 9}, "seen": 0}}))
    update_extra(tmp_path, {"seen": 1})
    assert read_extra(tmp_path) == {"replay": {"cursor": 9}, "seen": 1}
    assert damage(tmp_path) is None
    assert [path.name for path in tmp_path.iterdir()] == [META]


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_checkpoint_whose_own_file_cannot_be_read_is_damaged(tmp_path: Path, text: str) -> None:
    (tmp_path / META).write_text(text)
    assert META in str(damage(tmp_path))


def test_a_missing_and_a_truncated_file_are_named(tmp_path: Path) -> None:
    assert damage(tmp_path) == f"{META} is missing"
    (tmp_path / META).write_text(json.dumps({"files": {"shard": 3}}))
    assert damage(tmp_path) == "shard is missing"
    (tmp_path / "shard").write_bytes(b"ab")
    assert damage(tmp_path) == "shard has 2 bytes of 3"
    (tmp_path / "shard").write_bytes(b"abc")
    assert damage(tmp_path) is None


def test_checkpoints_are_in_the_order_of_their_steps_and_copies_are_none(tmp_path: Path) -> None:
    for name in (checkpoint_name(1_000_000), checkpoint_name(999_999), "step-20-good", ".step-000021.tmp", "step-x"):
        (tmp_path / name).mkdir()
    (tmp_path / checkpoint_name(7)).write_text("a file")
    assert list(checkpoints(tmp_path)) == [999_999, 1_000_000]
    assert checkpoints(tmp_path / "nowhere") == {}


def test_a_file_of_the_right_size_with_other_bytes_is_found_where_contents_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "shard").write_bytes(b"abc")
    (tmp_path / META).write_text(
        json.dumps({"files": {"shard": 3}, "sha256": {"shard": sha256_of(tmp_path / "shard")}})
    )
    assert damage(tmp_path, contents=True) is None
    (tmp_path / "shard").write_bytes(b"abd")
    assert damage(tmp_path) is None
    assert damage(tmp_path, contents=True) == "shard holds other bytes than were written"
