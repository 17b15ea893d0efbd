"""Sending and receiving in buckets, over a group that carries bytes within this process."""

import queue
from typing import Any

import pytest
import torch

from actors.weights.broadcast import receive, send
from actors.weights.buckets import Bucket, CorruptBucketError, Parameter, buckets, unpack
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
    received = receive(line, plan, staging or Staging())
    return tensors, _named(plan, received)


def _named(plan: list[Bucket], received: list[torch.Tensor]) -> Named:
    return [named for bucket, packed in zip(plan, received, strict=True) for named in unpack(bucket, packed)]


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


def _weights(count: int) -> Named:
    return [(f"layer.{number}", torch.randn(100 * (number + 1)).bfloat16()) for number in range(count)]


@pytest.mark.parametrize("gives_back", [True, False])
def test_changes_arrive_as_the_whole_would_have(gives_back: bool) -> None:
    """In the memory of the update before where the engine has given it back, and in other memory where it has not."""
    line, staging = Line(), Staging()
    tensors = _weights(9)
    plan = list(buckets([Parameter(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors], 700))
    kept: list[torch.Tensor] = []
    whole = send(line, iter(tensors), plan, (), kept)
    line.sends = False
    received = receive(line, plan, staging)
    for share in (0.0, 0.02, 1.0):
        before, bytes_before = received, [packed.clone() for packed in received]
        if gives_back:
            staging.give_back(_named(plan, received))
        tensors = [(name, torch.where(torch.rand_like(t) < share, t + 1, t)) for name, t in tensors]
        newest: list[torch.Tensor] = []
        line.sends = True
        sent = send(line, iter(tensors), plan, kept, newest)
        line.sends, kept = False, newest
        received = receive(line, plan, staging, received)
        assert all(
            torch.equal(mine, theirs) for (_, mine), (_, theirs) in zip(tensors, _named(plan, received), strict=True)
        )
        same = [mine.data_ptr() == theirs.data_ptr() for mine, theirs in zip(received, before, strict=True)]
        assert set(same) == {gives_back}
        assert gives_back or all(torch.equal(mine, theirs) for mine, theirs in zip(before, bytes_before, strict=True))
        assert sent < whole / 4 if share < 1 else sent == whole + 8 * len(plan)


def test_changes_of_other_bytes_than_the_sender_had_refuse_the_update() -> None:
    line, tensors = Line(), _weights(3)
    plan = list(buckets([Parameter(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors], 10_000))
    kept: list[torch.Tensor] = []
    send(line, iter(tensors), plan, (), kept)
    line.sends = False
    received = receive(line, plan, Staging())
    received[0][7] ^= 1
    line.sends = True
    send(line, iter(tensors), plan, kept)
    line.sends = False
    with pytest.raises(CorruptBucketError):
        receive(line, plan, Staging(), received)
