"""The ranks of an NCCL group meet, up to where NCCL itself would be called: no GPU is needed for that."""

import threading
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from actors.config.network import NetworkConfig
from actors.transport.address import resolve
from actors.transport.store import reach_store, serve_store
from actors.weights import nccl
from actors.weights.background import in_background
from actors.weights.group import GroupRank

pytestmark = pytest.mark.e2e


def rank_of(store: Any, number: int, address: str) -> GroupRank:
    return GroupRank(store, number, 2, address, torch.device("cuda", number), 60)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_the_ranks_of_an_nccl_group_find_each_other(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to where vLLM would call NCCL, and nothing is unpickled."""
    from vllm.distributed.device_communicators import pynccl_wrapper
    from vllm.distributed.weight_transfer import nccl_common

    monkeypatch.setattr(torch.accelerator, "set_device_index", lambda _: None)
    monkeypatch.setattr("pickle.loads", None)
    made = pynccl_wrapper.ncclUniqueId()
    made.internal[:] = [number - 64 for number in range(128)]
    monkeypatch.setattr(pynccl_wrapper, "NCCLLibrary", lambda: SimpleNamespace(ncclGetUniqueId=lambda: made))
    met: list[tuple[bytes, int, int, int]] = []

    def form(unique_id: bytes, rank: int, world_size: int, device: int) -> SimpleNamespace:
        met.append((unique_id, rank, world_size, device))
        return SimpleNamespace(destroy=lambda: None)

    monkeypatch.setattr(nccl_common, "uid_init_process_group", form)
    monkeypatch.setattr(nccl, "CudaLine", lambda *_: None)
    store, at = serve_store(resolve(NetworkConfig(advertise=address), in_cluster=False), 2, 60)
    other = in_background(lambda: nccl.join(rank_of(reach_store(at, 2, 60), 1, address)), "other")
    nccl.join(rank_of(store, 0, address))
    other.result(30)
    assert sorted(met, key=lambda one: one[1]) == [(bytes(made.internal), rank, 2, rank) for rank in (0, 1)]


def test_a_rank_that_dies_after_all_have_met_is_not_waited_for_by_nccl(monkeypatch: pytest.MonkeyPatch) -> None:
    """NCCL itself would wait for ever."""
    from vllm.distributed.device_communicators import pynccl_wrapper
    from vllm.distributed.weight_transfer import nccl_common

    made, dies, destroyed = pynccl_wrapper.ncclUniqueId(), threading.Event(), threading.Event()
    monkeypatch.setattr(torch.accelerator, "set_device_index", lambda _: None)
    monkeypatch.setattr(pynccl_wrapper, "NCCLLibrary", lambda: SimpleNamespace(ncclGetUniqueId=lambda: made))
    monkeypatch.setattr(nccl, "CudaLine", lambda communicator, _: SimpleNamespace(abort=communicator.destroy))

    def waits(*_: object) -> SimpleNamespace:
        dies.wait(60)
        return SimpleNamespace(destroy=destroyed.set)

    monkeypatch.setattr(nccl_common, "uid_init_process_group", waits)
    store, _ = serve_store(resolve(NetworkConfig(), in_cluster=False), 1, 60)
    alone = replace(rank_of(store, 0, "127.0.0.1"), world_size=1, deadline_seconds=0.2)
    with pytest.raises(TimeoutError, match=r"1 ranks have met, .* in 0\.2 s: one of them hangs or has died; see logs"):
        nccl.join(alone)
    dies.set()
    assert destroyed.wait(30), "a communicator that comes about too late is left behind"


def test_a_rank_that_does_not_come_is_not_waited_for_by_nccl() -> None:
    store, _ = serve_store(resolve(NetworkConfig(), in_cluster=False), 2, 20)
    with pytest.raises(torch.distributed.DistError):
        nccl.meet(store, b"id", 2, 0.5)
