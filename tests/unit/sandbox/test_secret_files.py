"""Secrets in files: who may read them, and what they hold."""

import os
from pathlib import Path

import pytest

from sandbox.errors import InputError
from sandbox.secret_files import read_secret, require_word, write_secret


def test_what_is_written_is_its_owners_alone_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "token"
    write_secret(path, "s3cret")
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_secret(path) == "s3cret"
    with pytest.raises(FileExistsError):
        write_secret(path, "another")
    assert read_secret(path) == "s3cret"


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o620, 0o602, 0o601])
def test_a_secret_that_others_can_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "token"
    write_secret(path, "s3cret")
    path.chmod(mode)
    with pytest.raises(InputError, match="chmod 600") as refused:
        read_secret(path)
    assert "s3cret" not in str(refused.value)


@pytest.mark.skipif(os.getuid() != 0, reason="gives a file to another user")
def test_the_group_may_read_what_root_owns_as_kubernetes_mounts_it(tmp_path: Path) -> None:
    path = tmp_path / "token"
    write_secret(path, "s3cret")
    path.chmod(0o640)
    assert read_secret(path) == "s3cret"
    os.chown(path, 12345, 12345)
    with pytest.raises(InputError):
        read_secret(path)


def test_what_is_no_word_is_refused_and_not_quoted(tmp_path: Path) -> None:
    for number, content in enumerate(["", "two words", "tokén", "x" * 5000, "line\nline"]):
        path = tmp_path / str(number)
        write_secret(path, content)
        with pytest.raises(InputError, match="one word") as refused:
            read_secret(path)
        assert content[:3] not in str(refused.value) or not content


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name in ("pipe", "nowhere", "."):
        with pytest.raises(InputError):
            read_secret(tmp_path / name)


def test_a_symbolic_link_is_followed_to_what_has_the_permissions(tmp_path: Path) -> None:
    write_secret(tmp_path / "..data", "s3cret")
    (tmp_path / "token").symlink_to("..data")
    assert read_secret(tmp_path / "token") == "s3cret"


def test_a_secret_of_the_environment_is_held_to_the_same() -> None:
    assert require_word("s3cret", "LEEWAY_TOKEN") == "s3cret"
    with pytest.raises(InputError, match="LEEWAY_TOKEN"):
        require_word("two words", "LEEWAY_TOKEN")
