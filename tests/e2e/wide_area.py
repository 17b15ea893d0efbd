"""A wire between two network namespaces, as long and as unreliable as a test wants it: TUN devices, and a thread that
hands each packet over late or never. (`tc netem` does the same, and not every kernel has it.)
"""

import ctypes
import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

DEVICE = "wire"
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_CLONE_NEWNET = 0x40000000
_PACKET_BYTES = 65536
#: Longest wait for a packet before it is looked whether the wire is to end (s).
_TICK_SECONDS = 0.05


def possible() -> bool:
    return os.getuid() == 0 and Path("/dev/net/tun").exists() and Path("/usr/sbin/ip").exists()


def ip(*arguments: str, inside: str = "") -> None:
    place = ("ip", "netns", "exec", inside) if inside else ()
    subprocess.run([*place, "ip", *arguments], check=True, capture_output=True, timeout=20)


class Wire(threading.Thread):
    """Packets between the TUN devices of two namespaces, each `delay_seconds` later; a share of `loss` is lost."""

    def __init__(self, namespaces: tuple[str, str], delay_seconds: float, loss: float) -> None:
        super().__init__(name="wire", daemon=True)
        self.here, self.there = namespaces
        self._delay, self._loss, self._random = delay_seconds, loss, random.Random(0)
        self._ends = [_opened_in(name) for name in namespaces]
        self._stopping = threading.Event()
        self.lost = 0

    def run(self) -> None:
        number, waiting = 0, list[tuple[float, int, int, bytes]]()
        while not self._stopping.is_set():
            due = waiting[0][0] - time.monotonic() if waiting else _TICK_SECONDS
            for end in select.select(self._ends, [], [], max(0.0, min(due, _TICK_SECONDS)))[0]:
                with suppress(OSError):  # a device that is down
                    packet, other = os.read(end, _PACKET_BYTES), self._ends[end == self._ends[0]]
                    if self._random.random() < self._loss:
                        self.lost += 1
                        continue
                    number += 1
                    heapq.heappush(waiting, (time.monotonic() + self._delay, number, other, packet))
            while waiting and waiting[0][0] <= time.monotonic():
                _, _, end, packet = heapq.heappop(waiting)
                with suppress(OSError):
                    os.write(end, packet)

    def close(self) -> None:
        self._stopping.set()
        self.join()
        for end in self._ends:
            os.close(end)

    def cut(self) -> None:
        ip("link", "set", DEVICE, "down", inside=self.there)

    def heal(self) -> None:
        ip("link", "set", DEVICE, "up", inside=self.there)


@contextmanager
def wire(addresses: tuple[str, str], delay_seconds: float, loss: float) -> Iterator[Wire]:
    """Two namespaces, with a wire between them and an address at each end."""
    names = (f"leeway-a-{os.getpid()}", f"leeway-b-{os.getpid()}")
    with ExitStack() as made:
        for name in names:
            ip("netns", "add", name)
            made.callback(ip, "netns", "del", name)
        between = Wire(names, delay_seconds, loss)
        made.callback(between.close)
        for name, address in zip(names, addresses, strict=True):
            ip("link", "set", "lo", "up", inside=name)
            ip("address", "add", f"{address}/24", "dev", DEVICE, inside=name)
            ip("link", "set", DEVICE, "up", inside=name)
        between.start()
        yield between


def _opened_in(namespace: str) -> int:
    """A TUN device in a namespace. Only the thread that opens it goes there."""
    found: list[int] = []

    def work() -> None:
        with Path(f"/run/netns/{namespace}").open() as file:
            if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _CLONE_NEWNET):
                return
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH", DEVICE.encode(), _IFF_TUN | _IFF_NO_PI))
        os.set_blocking(device, False)
        found.append(device)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    (device,) = found
    return device
