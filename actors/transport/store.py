"""Where the ranks of a group find each other: torch's key-value store, on our own listening socket.

Whoever reaches the store can read and change it, so it listens on the advertised address alone. What is in it are
addresses as Gloo and NCCL write them, never pickled objects.
"""

from datetime import timedelta

from torch.distributed import TCPStore  # type: ignore[attr-defined]

from actors.transport.address import Node, listen, split


def serve_store(node: Node, size: int, deadline_seconds: float) -> tuple[TCPStore, str]:
    """Open a store for `size` ranks; it must outlive their group.

    Returns:
        The store, and `host:port` for `reach_store` as others reach it.

    Raises:
        RunError: where no port is free.
        torch.distributed.DistError: where the store does not come up.
    """
    node = node.narrowed()
    listener = listen(node)
    port = listener.getsockname()[1]
    store = TCPStore(
        node.local,
        port,
        size,
        is_master=True,
        timeout=timedelta(seconds=deadline_seconds),
        wait_for_workers=False,
        master_listen_fd=listener.detach(),  # the store owns it from here on, and closes it
    )
    return store, node.at(port)


def reach_store(address: str, size: int, deadline_seconds: float) -> TCPStore:
    """The same store as the other ranks see it.

    Raises:
        torch.distributed.DistError: where it is not there within the deadline.
    """
    host, port = split(address)
    deadline = timedelta(seconds=deadline_seconds)
    return TCPStore(host, port, size, is_master=False, timeout=deadline, wait_for_workers=False)
