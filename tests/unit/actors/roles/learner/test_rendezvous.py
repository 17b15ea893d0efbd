"""Two ranks that know only the replay's directory form one group."""

import os
import signal
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from actors.config.network import NetworkConfig
from actors.deadline import until
from actors.errors import RunError
from actors.roles.learner.rendezvous import join, leave, wait_on_all_ranks
from actors.transport.address import resolve, split
from learner import LearnerConfig


class FakeClient:
    """The directory as a file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def request(self, kind: str, body: dict[str, Any] | None = None) -> Any:
        if kind == "announce":
            assert body is not None
            written = self._file.with_suffix(".new")
            written.write_text(body["address"])
            written.rename(self._file)
        found = {"learner": self._file.read_text()} if self._file.exists() else {}
        return SimpleNamespace(body={"services": found})


def rank_of_two(rank: int, file: Path, address: str) -> None:
    node = resolve(NetworkConfig(advertise=address), in_cluster=False)
    config = LearnerConfig(ranks=2, device="cpu", collective_seconds=60)
    join(FakeClient(file), rank, config, node, startup_seconds=60)  # type: ignore[arg-type]
    total = torch.tensor([float(rank + 1)])
    dist.all_reduce(total)
    assert total.item() == 3.0
    finished = file.with_suffix(".finished")
    with ThreadPoolExecutor(1) as threads:
        work: Future[None] = threads.submit(finished.touch if rank == 0 else lambda: None)
        wait_on_all_ranks(work, torch.device("cpu"))
        assert finished.exists(), "no rank goes on before the first one is done"
        broken: Future[None] = threads.submit(fail if rank == 0 else lambda: None)
        with pytest.raises(RunError, match="no progress") if rank == 0 else nullcontext():
            wait_on_all_ranks(broken, torch.device("cpu"))
    leave()


def fail() -> None:
    raise RunError("no progress")


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_two_ranks_find_each_other(tmp_path: Path, address: str) -> None:
    file = tmp_path / "directory"
    mp.spawn(rank_of_two, (file, address), nprocs=2)  # type: ignore[attr-defined, no-untyped-call]
    assert split(file.read_text())[0] == address


def rank_that_is_suspended(file: Path) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)
    rank_of_two(1, file, "127.0.0.1")


def test_a_rank_that_hangs_while_it_starts_is_named(tmp_path: Path) -> None:
    other = mp.get_context("spawn").Process(target=rank_that_is_suspended, args=(tmp_path / "directory",))  # type: ignore[attr-defined]
    other.start()
    try:
        assert until(lambda: psutil.Process(other.pid).status() == psutil.STATUS_STOPPED, 60)
        node = resolve(NetworkConfig(), in_cluster=False)
        config = LearnerConfig(ranks=2, device="cpu", collective_seconds=600)
        with pytest.raises(RunError, match=r"rank 0 waited 0\.5 s for rank 1; see the logs of learner-rank-1"):
            join(FakeClient(tmp_path / "directory"), 0, config, node, startup_seconds=0.5)  # type: ignore[arg-type]
        assert not dist.is_initialized()
    finally:
        other.kill()
        other.join(30)
