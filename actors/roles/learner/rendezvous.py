"""How the ranks of one learner find each other."""

import logging
import os
from concurrent.futures import Future, wait
from datetime import timedelta

import psutil
import torch
import torch.distributed as dist
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from actors.deadline import until
from actors.errors import RunError
from actors.observability.waits import waiting
from actors.replay.clients import AnyClient
from actors.transport.address import Node
from actors.transport.client import POLL_SECONDS
from actors.transport.store import reach_store, serve_store
from learner.config import LearnerConfig
from learner.distributed import ranks

log = logging.getLogger(__name__)

#: The first rank announces where the others meet it as this service of the replay's directory.
SERVICE = "learner"


def join(client: AnyClient, rank: int, config: LearnerConfig, node: Node, startup_seconds: float) -> None:
    """Form the default process group of the learner's ranks, which find each other by the replay's directory.

    Args:
        client: of this rank.
        rank: of this process.
        config: how many ranks there are, and how long one waits for another; where its device may be a GPU, tensors
            on GPUs travel by NCCL.
        node: this process's place in the network.
        startup_seconds: longest wait for another rank to start (s).

    Raises:
        RunError: where another rank does not turn up in time, or the first one finds no free port.
    """
    if rank == 0:
        store, address = serve_store(node, config.ranks, startup_seconds)
        client.request("announce", {"service": SERVICE, "address": address})
    else:
        found: list[str] = []

        def announced() -> bool:
            found.extend(filter(None, [client.request("directory").body["services"].get(SERVICE)]))
            return bool(found)

        with waiting("the first rank", "where the ranks meet"):
            found_in_time = until(announced, startup_seconds)
        if not found_in_time:
            raise RunError(f"rank {rank} waited {startup_seconds:g} s for the first rank; see logs/learner.log")
        store = reach_store(found[0], config.ranks, startup_seconds)
    _require_all(store, rank, config.ranks, startup_seconds)
    _use_interface_of(node.advertise)
    cuda = config.device != "cpu" and torch.cuda.is_available()
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if cuda else "gloo",
        store=store,
        rank=rank,
        world_size=config.ranks,
        timeout=timedelta(seconds=config.collective_seconds),
    )
    log.info("rank %d of %d", rank, config.ranks)


def _require_all(store: TCPStore, rank: int, count: int, seconds: float) -> None:
    """Wait until every rank has reached the store. Torch would wait as long as for a collective, and not say for whom.

    Raises:
        RunError: naming those that did not come.
    """
    store.set(f"here-{rank}", "")
    missing = [*range(count)]

    def all_here() -> bool:
        missing[:] = [one for one in missing if not store.check([f"here-{one}"])]
        return not missing

    with waiting("the other ranks", "to meet", counted_as="ranks"):
        here = until(all_here, seconds)
    if not here:
        names, logs = (", ".join(f"{what}{one}" for one in missing) for what in ("rank ", "learner-rank-"))
        raise RunError(f"rank {rank} waited {seconds:g} s for {names}; see the logs of {logs}")


def _use_interface_of(address: str) -> None:
    """Let Gloo connect from the interface that has `address`, unless the operator has chosen one. By itself it takes
    what the host's name resolves to, which may be loopback and reach no other machine."""
    for name, addresses in psutil.net_if_addrs().items():
        if address in (found.address.partition("%")[0] for found in addresses):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)


def wait_on_all_ranks(work: "Future[None]", device: torch.device) -> None:
    """Wait until the work of every rank is done, and raise what broke this one's.

    It may take longer than one collective may: ranks that wait for the first one's meet all the while.
    """
    with waiting("the first rank", "what it alone does"):
        while ranks.all_reduce_sum(float(not work.done()), device):
            wait([work], POLL_SECONDS)
    work.result()


def leave() -> None:
    """Dissolve the group, once all ranks are done; with one rank there is none."""
    if dist.is_initialized():
        dist.destroy_process_group()
