"""Starts an MPI program whose ranks are in several pods, without ssh: by MPICH's mpiexec and its launcher `manual`.

mpiexec prints a command for each rank, which whoever is in that rank's pod runs; it connects back to mpiexec.
"""

import shlex
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from actors.control import environment
from actors.control.cluster import guarded
from actors.deadline import until
from actors.errors import RunError

_PREFIX, _END = "HYDRA_LAUNCH: ", "HYDRA_LAUNCH_END"
#: Longest wait for mpiexec to print its commands (s), and how much of a failed program's output is shown (characters).
PRINTED_SECONDS, SHOWN = 30.0, 300


class Rank(Protocol):
    """Where one rank runs."""

    def start(self, command: Sequence[str]) -> None:
        """Run a command there, in the background."""


def launched(program: Sequence[str], ranks: Sequence[Rank], address: str, seconds: float) -> None:
    """Run an MPI program to its end.

    Args:
        program: and its arguments; it is at the same path everywhere.
        ranks: in their order.
        address: of this process, as the ranks reach it.
        seconds: longest time of the whole.

    Raises:
        RunError: mpiexec is not here, the program failed, or it did not end in time.
    """
    hosts = ",".join(f"rank-{number}" for number in range(len(ranks)))  # names only: nobody resolves them
    command = ["mpiexec.hydra", "-launcher", "manual", "-localhost", address, "-hosts", hosts, "-ppn", "1"]
    command += ["-n", str(len(ranks)), "-genvnone", *program]
    # However this process ends, mpiexec ends with it, and with mpiexec every rank: they hold the run's GPUs.
    with guarded(environment.describe(None)), tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "output"
        with output.open("wb") as file:
            try:
                mpiexec = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)
            except FileNotFoundError as error:
                raise RunError("mpiexec.hydra is not here: the CUDA image has it (Debian's mpich)") from error
        try:
            until(lambda: mpiexec.poll() is not None or _END in output.read_text(), PRINTED_SECONDS)
            commands = [line for line in output.read_text().splitlines() if line.startswith(_PREFIX)]
            if len(commands) != len(ranks):
                raise RunError(f"mpiexec.hydra does not say how to start {len(ranks)} ranks: {_tail(output)}")
            for rank, line in zip(ranks, commands, strict=True):
                rank.start(shlex.split(line.removeprefix(_PREFIX)))
            if not until(lambda: mpiexec.poll() is not None, seconds):
                raise RunError(
                    f"{program[0]} on {len(ranks)} ranks did not end within {seconds:g} s: {_tail(output)}; a rank "
                    f"hangs, or does not reach {address}: set NCCL_DEBUG=INFO, and see what each of them says"
                )
            if mpiexec.returncode:
                raise RunError(f"{program[0]} ended with exit code {mpiexec.returncode}: {_tail(output)}")
        finally:
            mpiexec.kill()
            mpiexec.wait()


def _tail(output: Path) -> str:
    lines = [line for line in output.read_text(errors="replace").splitlines() if not line.startswith("HYDRA_LAUNCH")]
    return " ".join(" ".join(lines).split())[-SHOWN:] or "it has said nothing"
