"""Streams that cannot show everything, or nothing any more."""

from __future__ import annotations

import io
import os

from rich.console import Console

from sandbox.terminal import Terminal, lasting


def test_what_an_encoding_lacks_keeps_its_width() -> None:
    file = io.BytesIO()
    stream = io.TextIOWrapper(file, encoding="ascii", write_through=True)
    Terminal(stream).write("█▎ – é 中…")
    assert file.getvalue() == b"#  - ? ?."


def test_nothing_is_left_for_the_end_of_the_process_to_fail_on() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        lasting(Console(file=stream)).print("text")
        stream.write("more")
