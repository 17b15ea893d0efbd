"""Files of a run: what is laid out can be fetched, and no name leads anywhere else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox import Pool, RewardConfig, SandboxConfig, Status, Submission
from sandbox.errors import FilesError
from sandbox.programs.files import fetched, laid_out, relative
from sandbox.programs.runner import ProgramRunner

NAMES = st.text(max_size=30) | st.lists(
    st.sampled_from(["a", "b", "..", ".", "", "/", "~", "\0", "é"]), max_size=6
).map("/".join)


def _fetch(directory: Path, names: list[str], limit: int = 1000) -> dict[str, bytes]:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return fetched(fd, names, limit)
    finally:
        os.close(fd)


@settings(deadline=None)
@given(st.dictionaries(NAMES, st.binary(max_size=20), max_size=4))
def test_what_is_laid_out_can_be_fetched_and_is_gone_afterwards(files: dict[str, bytes]) -> None:
    try:
        with laid_out(files, 1000) as directory:
            # Of several names of one file the last is written.
            written = {relative(name): content for name, content in files.items()}
            assert _fetch(directory, list(files)) == {name: written[relative(name)] for name in files}
    except FilesError:
        return
    assert not directory.exists()


@given(NAMES)
def test_no_name_leads_outside(name: str) -> None:
    try:
        path = relative(name)
    except FilesError:
        return
    assert not path.is_absolute()
    assert ".." not in path.parts


def test_nothing_but_directories_and_files_is_followed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "folder").mkdir()
    (tmp_path / "way").symlink_to("folder")
    (tmp_path / "folder" / "file").write_bytes(b"2")
    os.mkfifo(tmp_path / "pipe")
    names = ["file", "link", "folder", "folder/file", "way/file", "pipe", "none", "none/file", "file/file"]
    assert _fetch(tmp_path, names) == {"file": b"1", "folder/file": b"2"}


def test_sizes_are_limited(tmp_path: Path) -> None:
    with pytest.raises(FilesError, match="at most"), laid_out({"a": bytes(11)}, 10):
        pass
    (tmp_path / "a").write_bytes(bytes(6))
    (tmp_path / "b").write_bytes(bytes(6))
    assert len(_fetch(tmp_path, ["a"], 10)) == 1
    with pytest.raises(FilesError, match="too large"):
        _fetch(tmp_path, ["a", "b"], 10)


def test_programs_have_a_directory_of_their_own_if_the_configuration_says_so() -> None:
    program = "import os\nassert not os.listdir()\nopen('x', 'w').write('1')\nprint(open('x').read())"
    submission = Submission("stdio", f"```\n{program}\n```", {"tests": [{"stdin": "", "stdout": "1"}] * 2})
    with Pool(SandboxConfig(workers=1, scratch_bytes=1 << 20), RewardConfig()) as pool:
        if not pool.runner(120).can_write():
            pytest.skip("mount namespaces are not allowed here")
        [verdict] = pool.score([submission], 60)
    assert verdict.status is Status.OK, verdict
    with Pool(SandboxConfig(workers=1), RewardConfig()) as pool:
        [verdict] = pool.score([submission], 60)
    assert verdict.status is Status.FORBIDDEN, verdict


def test_a_directory_that_cannot_be_had_is_said_at_the_start(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ProgramRunner, "can_write", lambda _: False)
    Pool(SandboxConfig(workers=1, scratch_bytes=1 << 20), RewardConfig()).close()
    assert "needs a mount namespace" in caplog.text
