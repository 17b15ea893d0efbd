"""A real broadcast between two processes."""

import sys
from pathlib import Path

import pytest

from actors.config.network import NetworkConfig
from actors.doctor import broadcast
from actors.errors import RunError
from actors.transport.address import resolve

#: Joins as the other process does, and is suspended before the first broadcast.
SUSPENDED = """#!{python}
import os, signal, sys
from actors.doctor import broadcast
from actors.transport.address import split
from actors.transport.store import reach_store
address, here = sys.argv[3:]
group = broadcast._joined(reach_store(address, 2, 60), here, 1)
os.kill(os.getpid(), signal.SIGSTOP)
"""


def test_two_processes_of_this_machine_broadcast() -> None:
    assert broadcast.measured(resolve(NetworkConfig(), in_cluster=False)) > 0


@pytest.mark.parametrize(
    ("program", "seconds", "says"),
    [
        (
            "#!/bin/sh\necho 'no library libgloo' >&2; exit 1\n",
            3.0,
            "; no library libgloo; see whether network.advertise",
        ),
        (
            SUSPENDED.format(python=sys.executable),
            20.0,
            "; the other one said nothing in 20 s, and was killed; see whether",
        ),
    ],
    ids=["dies", "is suspended"],
)
def test_the_other_process_is_named_that_does_not_take_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, seconds: float, says: str
) -> None:
    other = tmp_path / "python"
    other.write_text(program)
    other.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(other))
    monkeypatch.setattr(broadcast, "SECONDS", seconds)
    with pytest.raises(RunError, match=r"cannot broadcast to each other over 127\.0\.0\.1") as raised:
        broadcast.measured(resolve(NetworkConfig(), in_cluster=False))
    assert says in str(raised.value)
