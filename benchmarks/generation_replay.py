"""A replay in a process of its own that leases given prompts over and over, one pass of them a version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from actors.config.network import NetworkConfig
from actors.replay.board import Board
from actors.replay.buffer import Buffer
from actors.replay.limits import ReplayLimits
from actors.replay.service import ReplayService
from actors.transport.address import resolve

#: Nobody dies here, and nobody is to be taken for dead on a machine with other work (s).
PATIENCE_SECONDS = 3600.0
MAX_MESSAGE_BYTES = 2**28
#: Longest start of the replay's process (s).
STARTUP_SECONDS = 120.0


class Prompts:
    """A task source of texts, which come again and again in the same order."""

    held_out = 0

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts

    def train(self, index: int) -> Mapping[str, Any]:
        text = self._texts[index % len(self._texts)]
        messages = [["user", text]]
        return {"key": str(index), "messages": messages, "verifier": "exact", "reference": {}, "source": "prompts"}

    def evaluate(self, index: int) -> Mapping[str, Any]:
        raise IndexError(f"there is no held-out task {index}")


def _serve(pipe: Connection, texts: Sequence[str], samples: int) -> None:
    # With no leeway a generator of version v is leased so many batches as there are versions up to v.
    limits = ReplayLimits(max_staleness=0, groups_per_batch=len(texts), lease_seconds=PATIENCE_SECONDS)
    buffer = Buffer(limits, samples, Prompts(texts))
    node = resolve(NetworkConfig(), in_cluster=False)
    service = ReplayService(buffer, Board(PATIENCE_SECONDS), node, MAX_MESSAGE_BYTES)
    service.start()
    pipe.send(service.address)
    with suppress(EOFError):
        pipe.recv()  # the parent sends nothing; it closes its end
    service.stop()


class GenerationReplay:
    """The parent's end. It ends with `close`, or with this process.

    Attributes:
        address: of the replay.
        pid: of its process.
    """

    def __init__(self, texts: Sequence[str], samples: int) -> None:
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, texts, samples), daemon=True)
        self._process.start()
        theirs.close()
        self.pid = self._process.pid
        if not self._pipe.poll(STARTUP_SECONDS):
            self._process.kill()
            raise TimeoutError(f"the replay, process {self.pid}, had no address within {STARTUP_SECONDS:g} s")
        self.address: str = self._pipe.recv()

    def close(self) -> None:
        self._pipe.close()
        self._process.join(10)
