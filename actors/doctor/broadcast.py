"""How fast Gloo broadcasts between two processes of this machine, by the group that carries weights.

`python -m actors.doctor.broadcast STORE ADDRESS` is the one that receives.
"""

import subprocess
import sys
import time

import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from actors.errors import RunError
from actors.transport.address import Node, split
from actors.transport.store import reach_store, serve_store
from actors.weights.gloo import join
from actors.weights.group import BroadcastGroup, GroupRank

#: Of one broadcast (bytes), as a large bucket of weights; how many are timed; the longest wait for the other side (s).
MESSAGE_BYTES, TIMES, SECONDS = 64 * 2**20, 5, 60.0


def measured(node: Node) -> float:
    """Bytes per second, once for the first broadcast to be over.

    Raises:
        RunError: the two do not find each other, or one of them hangs; with the last words of the other one.
    """
    store, address = serve_store(node, 2, SECONDS)
    command = [sys.executable, "-m", __name__, address, split(address)[0]]
    other = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        group = _joined(store, split(address)[0], 0)
        broadcasts(group, 1)
        began = time.monotonic()
        broadcasts(group, TIMES)
        other.communicate(timeout=SECONDS)  # it has everything when it ends
        return TIMES * MESSAGE_BYTES / (time.monotonic() - began)
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        other.kill()
        *_, last = ["", *other.communicate()[1].strip().splitlines()]
        said = last or f"the other one said nothing in {SECONDS:g} s, and was killed"
        raise RunError(
            f"two processes of this machine cannot broadcast to each other over {address}: {error}; {said}; see "
            "whether network.advertise is an address of this machine, and what its firewall lets through"
        ) from error
    finally:
        other.kill()
        other.wait()


def broadcasts(group: BroadcastGroup, times: int) -> None:
    message = torch.ones(MESSAGE_BYTES, dtype=torch.uint8)
    for _ in range(times):
        group.broadcast(message, 0).wait()


def _joined(store: TCPStore, address: str, number: int) -> BroadcastGroup:
    return join(GroupRank(store, number, 2, address, torch.device("cpu"), SECONDS))


if __name__ == "__main__":
    broadcasts(_joined(reach_store(sys.argv[1], 2, SECONDS), sys.argv[2], 1), 1 + TIMES)
