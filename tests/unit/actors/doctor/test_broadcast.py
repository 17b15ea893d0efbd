"""A real broadcast between two processes."""

from actors.config.network import NetworkConfig
from actors.doctor import broadcast
from actors.transport.address import resolve


def test_two_processes_of_this_machine_broadcast() -> None:
    assert broadcast.measured(resolve(NetworkConfig(), in_cluster=False)) > 0
