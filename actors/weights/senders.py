"""Which ranks of the learner send the weights.

    ranks of        weights.senders    send
    one node        null               the first one
    several nodes   null               the first one of each node
    any             n                  n of them: the first of each node, then the second of each, and so on
    any             any                the first one, where adapters alone are sent

A node is what has an address: ranks that advertise the same one share its network and its memory. On one machine that
is loopback, in a cluster the node's or the pod's own.
"""

from collections.abc import Sequence


def senders_of(nodes: Sequence[str], count: int | None) -> list[int]:
    """The ranks that send, in the order of their stripes; the first rank is the first of them.

    Args:
        nodes: of each rank.
        count: how many there are to be; None: as many as there are nodes.
    """
    places = sorted((nodes[:rank].count(node), rank) for rank, node in enumerate(nodes))
    return [rank for _, rank in places[: count or len(set(nodes))]]
