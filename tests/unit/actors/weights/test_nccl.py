"""An NCCL group over a line that stands for a GPU with its communicator."""

import threading
import time
from collections.abc import Callable

import pytest
import torch

from actors.weights.nccl import NcclGroup

CHUNK = 64


class StubLine:
    """Both ends of a broadcast between two ranks; `stalls` is the number of the broadcast that is never over."""

    def __init__(self, stalls: int | None = None) -> None:
        self.chunks = torch.empty(CHUNK, dtype=torch.uint8), torch.empty(CHUNK, dtype=torch.uint8)
        self.sent: list[torch.Tensor] = []
        self.sends, self._stalls, self._received = True, stalls, 0
        self.aborted = threading.Event()

    def copy(self, to: torch.Tensor, of: torch.Tensor) -> None:
        to.copy_(of)

    def broadcast(self, chunk: torch.Tensor) -> Callable[[], bool]:
        number = len(self.sent) if self.sends else self._received
        if self.sends:
            self.sent.append(chunk.clone())
        else:
            chunk.copy_(self.sent[number])
            self._received += 1
        over = time.monotonic() + 0.002
        return lambda: number != self._stalls and time.monotonic() > over

    def abort(self) -> None:
        self.aborted.set()


@pytest.mark.parametrize("size", [1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 5 * CHUNK + 3])
def test_bytes_of_any_number_pass_through_two_chunks(size: int) -> None:
    line, sent = StubLine(), torch.randint(256, (size,), dtype=torch.uint8)
    NcclGroup(line, True, 10).broadcast(sent, 0).wait()
    assert [len(part) for part in line.sent] == [CHUNK] * (size // CHUNK) + [size % CHUNK] * (size % CHUNK > 0)
    line.sends = False
    received = torch.zeros_like(sent)
    NcclGroup(line, False, 10).broadcast(received, 0).wait()
    assert torch.equal(received, sent)


@pytest.mark.parametrize("stalls", [0, 1, 2])
def test_a_broadcast_that_is_not_over_in_time_is_aborted(stalls: int) -> None:
    line = StubLine(stalls)
    with pytest.raises(TimeoutError, match=r"not over in 0\.05 s"):
        NcclGroup(line, True, 0.05).broadcast(torch.zeros(3 * CHUNK, dtype=torch.uint8), 0).wait()
    assert line.aborted.wait(10)


def test_a_group_that_is_given_up_ends_its_broadcast_long_before_the_deadline() -> None:
    line = StubLine(stalls=0)
    group = NcclGroup(line, True, 600)
    under_way = group.broadcast(torch.zeros(3 * CHUNK, dtype=torch.uint8), 0)
    group.abort()
    with pytest.raises(RuntimeError, match="given up"):
        under_way.wait()
    assert line.aborted.wait(10)
