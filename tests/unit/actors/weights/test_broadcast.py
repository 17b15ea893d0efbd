"""Sending and receiving in buckets, over a group that carries bytes within this process."""

import queue
from typing import Any

import pytest
import torch

from actors.weights.broadcast import receive, send
from actors.weights.buckets import CorruptBucketError, Parameter, buckets
from actors.weights.staging import Staging


class Done:
    def wait(self) -> None: ...


class Arriving:
    def __init__(self, line: "queue.Queue[torch.Tensor]", tensor: torch.Tensor) -> None:
        self._line, self._tensor = line, tensor

    def wait(self) -> None:
        self._tensor.copy_(self._line.get(timeout=10))


class Line:
    """Both ends of a broadcast between two ranks; broadcast number `corrupts` changes a bit on its way."""

    def __init__(self, corrupts: int | None = None) -> None:
        self._line: queue.Queue[torch.Tensor] = queue.Queue()
        self._corrupts, self.sends = corrupts, True

    def broadcast(self, tensor: torch.Tensor, root: int) -> Any:  # noqa: ARG002 - the group's
        if not self.sends:
            return Arriving(self._line, tensor)
        sent = tensor.clone()
        if self._line.qsize() == self._corrupts:
            sent[-1] ^= 1
        self._line.put(sent)
        return Done()

    def abort(self) -> None: ...


Named = list[tuple[str, torch.Tensor]]


def _carried(line: Line, staging: Staging | None = None) -> tuple[Named, Named]:
    tensors = [(f"layer.{number}", torch.randn(number + 1, 7)) for number in range(9)]
    plan = list(buckets([Parameter(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors], 300))
    assert len(plan) > 3
    assert send(line, iter(tensors), plan) == sum(tensor.nbytes for _, tensor in tensors)
    line.sends = False
    return tensors, receive(line, plan, staging or Staging())


def test_what_is_sent_is_received() -> None:
    sent, received = _carried(Line())
    assert [name for name, _ in received] == [name for name, _ in sent]
    assert all(torch.equal(mine, theirs) for (_, mine), (_, theirs) in zip(sent, received, strict=True))


@pytest.mark.parametrize("corrupted", [0, 2, -1])
def test_a_bit_that_changes_on_its_way_refuses_the_update(corrupted: int) -> None:
    """Also one of the checksums themselves, which are sent last."""
    tensors = [(f"layer.{number}", torch.randn(number + 1, 7)) for number in range(9)]
    parameters = [Parameter(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors]
    broadcasts = len(list(buckets(parameters, 300))) + 1
    with pytest.raises(CorruptBucketError, match="corrupted"):
        _carried(Line(corrupts=corrupted % broadcasts))


def test_no_tensors_are_an_update_too() -> None:
    line = Line()
    assert send(line, iter(()), []) == 0
    line.sends = False
    assert receive(line, [], Staging()) == []


def test_an_update_is_received_into_the_memory_of_one_before_and_never_into_that_in_use() -> None:
    staging = Staging()
    _, first = _carried(Line(), staging)
    kept = [(name, tensor.clone()) for name, tensor in first]
    _, second = _carried(Line(), staging)
    assert all(torch.equal(mine, theirs) for (_, mine), (_, theirs) in zip(first, kept, strict=True))
    staging.give_back(first)
    sent, third = _carried(Line(), staging)
    assert {tensor.data_ptr() for _, tensor in third} == {tensor.data_ptr() for _, tensor in first}
    assert not {tensor.data_ptr() for _, tensor in third} & {tensor.data_ptr() for _, tensor in second}
    assert all(torch.equal(mine, theirs) for (_, mine), (_, theirs) in zip(sent, third, strict=True))
