"""The end of weight synchronisation of a learner's rank that sends a stripe, where the first one does not send all.

Its calls are those of a generator, by the same subscription and in the same states, but that it sends where a generator
receives. The first rank's publisher decides about everything; here is a snapshot of the stripe, and a thread.
"""

import asyncio
import logging
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch

from actors.config.roles import WeightsConfig
from actors.errors import RunError
from actors.transport.address import Node
from actors.weights import messages as m
from actors.weights.background import Abandoned, in_background
from actors.weights.broadcast import Outgoing, options_of
from actors.weights.buckets import Parameter, listed
from actors.weights.group import BroadcastGroup, abort_once_joined
from actors.weights.session import Tensors
from actors.weights.subscriber import STEPS, Subscription

log = logging.getLogger(__name__)

#: It is looked this often whether the learner has offered the version that is asked for (s).
POLL_SECONDS = 0.01
#: Longest end of the thread (s).
CLOSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Stripe:
    """A rank's share of one version."""

    version: int
    tensors: Tensors


class StripeSender:
    """Sends stripes of the newest snapshot where the publisher asks for them.

    Args:
        endpoint: of the publisher.
        name: of this process.
        config: the recipe's section.
        node: where the group of the stripe meets.
        dtype: of the weights on the wire.
        device: whose memory the bytes pass through, where they pass through any but the host's.
    """

    def __init__(
        self, endpoint: str, name: str, config: WeightsConfig, node: Node, dtype: torch.dtype, device: torch.device
    ) -> None:
        connect = partial(Outgoing, **options_of(config, node, dtype, device))
        self._name, self._sending = name, StripeUpdate(connect, config.deadline_seconds)
        self._subscription = StripeSubscription(endpoint, name, self._sending, config.deadline_seconds)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stripe-sender", daemon=True)
        self._thread.start()

    def publish(self, version: int, tensors: Tensors) -> None:
        """Offer a stripe; returns at once. The tensors must not change afterwards.

        Raises:
            RunError: where the sending thread has died, or a broadcast does not end.
        """
        if not self._thread.is_alive():
            raise RunError(f"the thread that sends a stripe of the weights has died; see logs/{self._name}.log")
        self._sending.abandoned.check()
        self._sending.newest = Stripe(version, tensors)

    def close(self) -> None:
        self._stopping.set()
        self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        try:
            asyncio.run(self._until_stopped())
        except Exception:
            log.exception("the thread that sends a stripe of the weights ends")
            raise

    async def _until_stopped(self) -> None:
        subscribed = asyncio.create_task(self._subscription.run())
        while not self._stopping.is_set() and not subscribed.done():
            await asyncio.wait({subscribed}, timeout=10 * POLL_SECONDS)
        subscribed.cancel()
        await asyncio.wait({subscribed})
        if not subscribed.cancelled():
            subscribed.result()


class StripeUpdate:
    """The open group and the update under way, in the event loop of the sender's thread.

    Args:
        connect: makes this end of a group of so many ranks.
        deadline_seconds: of the group.

    Attributes:
        newest: what the learner has offered last, from its own thread.
        abandoned: broadcasts that were given up.
    """

    def __init__(self, connect: "partial[Outgoing]", deadline_seconds: float) -> None:
        self._connect, self._deadline = connect, deadline_seconds
        self.newest: Stripe | None = None
        self.abandoned = Abandoned()
        self._outgoing: Outgoing | None = None
        self._group: Future[BroadcastGroup] | None = None
        self._stripe: Stripe | None = None
        self._parameters: Future[list[Parameter]] | None = None
        self._sent: Future[int] | None = None

    async def open_group(self, world_size: int) -> str:
        """Begin to meet the receivers; returns where, host:port."""
        outgoing = self._connect(world_size)
        self._outgoing, self._group = outgoing, in_background(outgoing.join, "rendezvous")
        return outgoing.meets_at

    async def start_update(self, version: int) -> bool:
        """Keep this version until it is sent, once the learner has offered it, and begin to read it; False where the
        learner has offered a newer one by now."""
        assert self._outgoing is not None, "the state is 'opened' only with a group"
        while (newest := self.newest) is None or newest.version < version:
            await asyncio.sleep(POLL_SECONDS)
        if newest.version > version:
            self._stripe = self._parameters = None  # of an attempt that another sender has ended
            return False
        self._stripe = newest
        # It may wait for the copies to be made, and convert them.
        read = partial(self._outgoing.parameters, newest.tensors)
        self._parameters = in_background(read, "stripe-reader")
        return True

    async def describe(self) -> list[Parameter]:
        """What will be sent, once everybody has met.

        Raises:
            torch.distributed.DistError: a receiver did not come.
            SnapshotError: the copies were not made in time.
        """
        assert self._group is not None and self._parameters is not None, "the state is 'started'"
        await asyncio.wrap_future(self._group)
        return await asyncio.wrap_future(self._parameters)

    def send(self, delta: bool) -> None:
        """Begin to send.

        Raises:
            ValueError: changes are asked for of an update that this group has not carried.
        """
        outgoing, group, stripe, described = self._outgoing, self._group, self._stripe, self._parameters
        assert outgoing and group and stripe and described, "the state is 'described'"
        joined, parameters = group.result(0), described.result(0)
        if delta and parameters and not outgoing.before:
            raise ValueError("changes are to be sent of an update that this group has not carried")
        if not delta:
            outgoing.before = []
        self._sent = in_background(lambda: outgoing.send(joined, stripe.tensors, parameters), "stripe-sender")

    async def received(self) -> None:
        """Wait until everything is sent; raises what broke the broadcast, which has a deadline of its own."""
        assert self._sent is not None, "the state is 'receiving' only where something is sent"
        await asyncio.wrap_future(self._sent)

    def finish(self) -> int:
        """The bytes that were sent; the version is not kept any longer."""
        assert self._sent is not None, "it was sent"
        sent = self._sent.result(0)
        self._sent = self._stripe = self._parameters = None
        return sent

    async def abort_update(self) -> None:
        """Give up the update under way, and the group. A broadcast that nothing can interrupt ends by its deadline."""
        group, sent = self._group, self._sent
        self._outgoing = self._group = self._stripe = self._parameters = self._sent = None
        if group is not None:
            abort_once_joined(group)
        if sent is not None and not sent.done():
            self.abandoned.add(sent, "the generators", 2 * self._deadline)


class StripeSubscription(Subscription):
    """What the publisher asks of `StripeUpdate`, and what it is answered."""

    calls = m.TO_SENDER
    #: Of a version that has a successor the next one is started instead.
    steps: ClassVar = {
        **STEPS,
        "start": (("opened", "started"), "started"),
        "describe": (("started",), "described"),
        "update": (("described",), "receiving"),
    }
    #: The first rank, too, may read for long what it has started.
    at_rest: ClassVar = Subscription.at_rest | {"started"}

    def __init__(self, endpoint: str, name: str, update: StripeUpdate, deadline_seconds: float) -> None:
        super().__init__(endpoint, name, update, deadline_seconds)
        self._stripe = update

    def _registration(self) -> tuple[str, dict[str, Any]]:
        return "register_sender", {}

    async def _answer(self, call: m.EpochMessage) -> dict[str, Any]:
        match call:
            case m.OpenStripe():
                return {"meets_at": await self._stripe.open_group(call.world_size)}
            case m.StartStripe():
                return {"superseded": not await self._stripe.start_update(call.version)}
            case m.DescribeStripe():
                return {"stripe": listed(await self._stripe.describe())}
            case m.SendStripe():
                self._stripe.send(call.delta)
                self._begin_transfer()
            case m.FinishStripe():
                await self._transferred()
                return {"sent_bytes": self._stripe.finish()}
        return {}
