"""A rank's part in sending the weights, where `actors.weights.senders` chooses it for one."""

from collections.abc import Callable

import torch

from actors.config.recipe import Recipe
from actors.events import WeightSync
from actors.transport.address import Node
from actors.transport.client import Heartbeat
from actors.weights.gloo import require_interface
from actors.weights.publisher import Publisher
from actors.weights.senders import senders_of
from actors.weights.session import Tensors
from actors.weights.stripe_sender import StripeSender
from learner.distributed import ranks
from learner.model.merging import Merging
from learner.runtime import device_of


class Publishing:
    """A rank's part in sending weights. Every rank of the learner makes one at the same time, once they have met.

    Args:
        recipe: the run's.
        name: of this process.
        node: its place in the network.
        heartbeat: brings who is alive.
        merging: how generators merge the weights, where these are adapters alone; on the first rank.
        on_sync: called with the event after each update, on the first rank.

    Attributes:
        senders: the ranks that send, in the order of their stripes: a snapshot is shared out by it.
        endpoint: where generators find the publisher, on the first rank.

    Raises:
        RunError: a rank that sends advertises an address that the broadcast cannot use.
    """

    def __init__(
        self,
        recipe: Recipe,
        name: str,
        node: Node,
        heartbeat: Heartbeat,
        merging: Merging | None = None,
        on_sync: Callable[[WeightSync], None] = lambda _: None,
    ) -> None:
        rank, dtype = ranks.rank(), getattr(torch, recipe.generators.dtype)
        if recipe.learner.sends_adapters:
            dtype = torch.float32
            self.senders = [0]
        else:
            self.senders = senders_of(ranks.gather_texts(node.advertise), recipe.weights.senders)
        if rank in self.senders and recipe.weights.backend == "gloo":
            require_interface(node.advertise)
        names = ranks.gather_texts(name) if len(self.senders) > 1 else [name]
        device = device_of(recipe.learner)
        self._publisher: Publisher | None = None
        self._sender: StripeSender | None = None
        if rank == 0:
            others = [names[sender] for sender in self.senders[1:]]
            self._publisher = Publisher(
                recipe.weights,
                node,
                dtype,
                alive=lambda: heartbeat.alive("generator") | heartbeat.alive("learner"),
                timeout_seconds=recipe.membership.timeout_seconds,
                on_sync=on_sync,
                merging=merging,
                device=device,
                senders=others,
            )
        self.endpoint = self._publisher.endpoint if self._publisher is not None else None
        if len(self.senders) > 1:
            first, *_ = ranks.gather_texts(self.endpoint or "")
            if rank in self.senders[1:]:
                self._sender = StripeSender(first, name, recipe.weights, node, dtype, device)

    def publish(self, version: int, tensors: Tensors) -> None:
        """Offer this rank's share of a snapshot, where it has one; returns at once.

        Raises:
            RunError: where the sending thread has died, or a broadcast does not end.
        """
        if (sender := self._publisher or self._sender) is not None:
            sender.publish(version, tensors)

    def wait(self, version: int, deadline_seconds: float) -> bool:
        """On the first rank: see `Publisher.wait`."""
        assert self._publisher is not None, "the first rank alone knows who has which version"
        return self._publisher.wait(version, deadline_seconds)

    def close(self) -> None:
        if (sender := self._publisher or self._sender) is not None:
            sender.close()
