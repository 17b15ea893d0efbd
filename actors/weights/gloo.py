"""A Gloo group that is independent of torch's default group."""

from datetime import timedelta
from typing import cast

from torch.distributed import PrefixStore, ProcessGroupGloo  # type: ignore[attr-defined]

from actors.errors import RunError
from actors.weights.group import BroadcastGroup, GroupRank


def join(rank: GroupRank) -> BroadcastGroup:
    """Meet the other ranks.

    Raises:
        torch.distributed.DistError: where a rank does not come in time.
    """
    options = ProcessGroupGloo._Options()  # type: ignore[attr-defined]
    options._timeout = timedelta(seconds=rank.deadline_seconds)
    options._devices = [ProcessGroupGloo.create_device(hostname=rank.address)]
    store = PrefixStore("leeway", rank.store)
    return cast(BroadcastGroup, ProcessGroupGloo(store, rank.number, rank.world_size, options))


def require_interface(address: str) -> None:
    """Gloo tells the other ranks the address that it binds: an address of another machine in front will not do.

    Raises:
        RunError: this machine has no interface with that address.
    """
    try:
        ProcessGroupGloo.create_device(hostname=address)
    except RuntimeError as error:
        raise RunError(
            f"network.advertise: {address} is no address of this machine, and the weights' broadcast (weights.backend: "
            "gloo) needs one; advertise an address of an interface"
        ) from error
