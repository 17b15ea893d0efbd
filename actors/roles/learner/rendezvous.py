"""How the ranks of one learner find each other."""

import logging
import os
from datetime import timedelta

import psutil
import torch
import torch.distributed as dist

from actors.deadline import until
from actors.errors import RunError
from actors.transport.address import Node
from actors.transport.client import Client
from actors.transport.store import reach_store, serve_store

log = logging.getLogger(__name__)

#: The first rank announces where the others meet it as this service of the replay's directory.
SERVICE = "learner"
#: Longest wait for another rank to start (s); imports of torch take most of it.
START_SECONDS = 300.0
#: Longest wait for another rank within a run (s): the others wait while the first one waits for engines to come up and
#: for the evaluations before and after training.
COLLECTIVE_SECONDS = 3600.0


def join(client: Client, rank: int, size: int, node: Node, device: str) -> None:
    """Form the default process group of `size` ranks, which find each other by the replay's directory.

    Args:
        client: of this rank.
        rank: of this process.
        size: number of ranks.
        node: this process's place in the network.
        device: of the learner; where it may be a GPU, tensors on GPUs travel by NCCL.

    Raises:
        RunError: where the first rank does not turn up in time, or finds no free port.
    """
    if rank == 0:
        store, address = serve_store(node, size, START_SECONDS)
        client.request("announce", {"service": SERVICE, "address": address})
    else:
        found: list[str] = []

        def announced() -> bool:
            found.extend(filter(None, [client.request("directory").body["services"].get(SERVICE)]))
            return bool(found)

        if not until(announced, START_SECONDS):
            raise RunError(f"rank {rank} waited {START_SECONDS:g} s for the first rank; see logs/learner.log")
        store = reach_store(found[0], size, START_SECONDS)
    _use_interface_of(node.advertise)
    cuda = device != "cpu" and torch.cuda.is_available()
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if cuda else "gloo",
        store=store,
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=COLLECTIVE_SECONDS),
    )
    log.info("rank %d of %d", rank, size)


def _use_interface_of(address: str) -> None:
    """Let Gloo connect from the interface that has `address`, unless the operator has chosen one. By itself it takes
    what the host's name resolves to, which may be loopback and reach no other machine."""
    for name, addresses in psutil.net_if_addrs().items():
        if address in (found.address.partition("%")[0] for found in addresses):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)


def leave() -> None:
    """Dissolve the group, once all ranks are done; with one rank there is none."""
    if dist.is_initialized():
        dist.destroy_process_group()
