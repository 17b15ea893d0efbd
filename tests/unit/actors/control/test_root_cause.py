"""The one line of a log that says why a process died."""

from pathlib import Path

import pytest

from actors.control.root_cause import TAIL_BYTES, in_one_line, last_error

POINTER = """
Traceback (most recent call last):
  File "core_client.py", line 167, in make
    raise RuntimeError(
RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
"""
WORKER = """
(EngineCore pid=7) ERROR 11-27 02:44:31 [core.py:1100] EngineCore failed to start.
(EngineCore pid=7) ERROR 11-27 02:44:31 [core.py:1100] Traceback (most recent call last):
(EngineCore pid=7) ERROR 11-27 02:44:31 [core.py:1100]   File "attention.py", line 9, in check
(EngineCore pid=7) ERROR 11-27 02:44:31 [core.py:1100] ValueError: the block size must be a multiple of 32, not 16
"""
PYDANTIC = """
pydantic_core._pydantic_core.ValidationError: 1 validation error for CacheConfig
  Value error, blocks of 7 are not supported [type=value_error, input_value=7, input_type=int]
    For further information visit https://errors.pydantic.dev/2.12/v/value_error
2026-11-27 02:44:35 INFO actors.process: later
"""


def log_of(folder: Path, text: str) -> Path:
    path = folder / "generator-3.log"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (WORKER + POINTER, "ValueError: the block size must be a multiple of 32, not 16"),
        ("OSError: first\n" + POINTER, "OSError: first"),
        (
            "torch.OutOfMemoryError: CUDA out of memory. Tried 2 GiB\n",
            "torch.OutOfMemoryError: CUDA out of memory. Tried 2 GiB",
        ),
        (POINTER, None),
        ("2026-11-27 INFO a.b: no error: nothing is wrong\n", None),
        ("", None),
    ],
)
def test_the_last_error_that_is_not_a_pointer(tmp_path: Path, text: str, found: str | None) -> None:
    assert last_error(log_of(tmp_path, text)) == found


def test_a_message_of_several_lines_is_one(tmp_path: Path) -> None:
    found = last_error(log_of(tmp_path, PYDANTIC + POINTER))
    assert found is not None and "blocks of 7 are not supported" in found
    assert "\n" not in found and "further information" not in found


def test_a_log_that_is_long_or_missing_or_not_text(tmp_path: Path) -> None:
    assert last_error(tmp_path / "nothing.log") is None
    path = log_of(tmp_path, "")
    path.write_bytes(b"\xff\xfe\n" * TAIL_BYTES + b"KeyError: 'x'\n\xff\n")
    assert last_error(path) == "KeyError: 'x'"


def test_a_long_message_is_cut() -> None:
    assert len(in_one_line("word " * 1000)) < 500
