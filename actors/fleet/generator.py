"""A synthetic generator: the groups, the engine and the weight subscriber of a real one, over one socket in one loop.

It asks the replay what a real generator asks, in the same order. Only what carries the requests is another: a real
generator has a process with threads for its sockets, of which a machine holds a few dozen and not a thousand.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Mapping
from typing import Any

from actors.concurrency import end, first_of, take_ended
from actors.config.roles import SamplingConfig
from actors.engines.protocol import Job, SampledCompletion
from actors.engines.synthetic import SyntheticEngine
from actors.errors import PeerTimeoutError, ProtocolError
from actors.fleet.link import Link, ShardedLink
from actors.membership import Report
from actors.replay.progress import Partial, leased_parts
from actors.roles.generator import HAND_IN_SHARE
from actors.roles.groups import Groups
from actors.roles.role import RoleContext
from actors.tasks.templates import Renderer
from actors.transport.lifeline import REPLY_SECONDS
from actors.weights.subscriber import Subscriber

log = logging.getLogger(__name__)

#: How long the replay may hold a request for work back (s); longer than a real generator's, since there are so many.
LEASE_SECONDS = 5.0
#: How often a generator without weights, or without anything to do, looks again (s).
IDLE_SECONDS = 0.1


class FleetEngine(SyntheticEngine):
    """The synthetic engine with updates that carry no bytes. It counts what it does, and stands still with its link."""

    def __init__(self, context: RoleContext, tokenizer: Any, link: Link) -> None:
        super().__init__(context.recipe.generators, tokenizer, context.seed)
        self._link = link
        self._busy, self._since, self.active = 0.0, 0.0, 0
        self.tokens = self.groups = 0

    async def generate(
        self, prompt: list[int], samples: int, sampling: SamplingConfig, job: Job | None = None
    ) -> list[SampledCompletion]:
        self._since = self._since if self.active else time.monotonic()
        self.active += 1
        try:
            sampled = await super().generate(prompt, samples, sampling, job)
            await self._link.running()
        finally:
            self.active -= 1
            self._busy += 0.0 if self.active else time.monotonic() - self._since
        self.groups += 1
        self.tokens += sum(len(completion.tokens) for completion in sampled)
        return sampled

    @property
    def busy_seconds(self) -> float:
        return self._busy + (time.monotonic() - self._since if self.active else 0.0)

    async def open_group(self, info: dict[str, Any]) -> None:  # noqa: ARG002 - there is no group
        await self._link.running()

    async def start_update(self) -> None:
        await self._link.running()

    async def receive_update(self, info: dict[str, Any]) -> None:  # noqa: ARG002 - no bytes come
        await self._link.running()

    async def received(self) -> None:
        await self._link.running()

    async def finish_update(self, version: int) -> float:
        await self._link.running()
        return self.swap(version)

    async def abort_update(self) -> None:
        """Nothing is open."""


class FleetSubscriber(Subscriber):
    """Follows the publisher over a link, and leaves without a word, as a process that was killed."""

    def __init__(self, endpoint: str, name: str, receiver: "VersionTeller", seconds: float, link: Link) -> None:
        super().__init__(endpoint, name, receiver, seconds)
        self._link = link

    async def _send(self, kind: str, number: int, body: Mapping[str, Any]) -> None:
        if self._link.up:
            await super()._send(kind, number, body)

    async def _leave(self) -> None:
        try:
            await self._abort("this generator leaves")
        finally:
            self._socket.close(0.0)


class FleetGenerator:
    """One of many in a process. `run` works until it is cancelled, stopped or drained.

    Attributes:
        lifeline: where the replay is.
        link: for faults.
        engine: for faults.
    """

    def __init__(self, context: RoleContext, renderer: Renderer, tokenizer: Any, metrics_address: str) -> None:
        self._recipe, self._name, self.lifeline = context.recipe, context.name, context.lifeline
        self._renderer, self._address = renderer, metrics_address
        self.link = Link()
        self.engine = FleetEngine(context, tokenizer, self.link)
        self._process, self._started = secrets.token_hex(8), time.monotonic()
        self._running: set[asyncio.Task[None]] = set()
        self._stopping = self._leaving = False
        self._beat = asyncio.Event()

    def stop(self) -> None:
        """End: the run is over, and nobody wants what there is."""
        self._stopping = True

    def drain(self) -> None:
        """Take no new lease, finish what is in flight, hand in what takes too long, and end."""
        self._leaving = True

    async def run(self) -> None:
        self._client = ShardedLink(self.lifeline, self._name, self.link)
        groups = Groups(self._recipe, self._renderer, self.engine, self._send)
        try:
            await first_of(self._heartbeats(), self._subscribe(), groups.renew(), self._work(groups))
            if self._leaving:
                await self._leave(groups)
        finally:
            for task in self._running:
                task.cancel()
            self._client.close()

    async def _work(self, groups: Groups) -> None:
        """As a real generator works and leaves, see `actors.roles.generator`."""
        running = self._running
        while not self._stopping and not self._leaving:
            free = self._recipe.generators.groups_in_flight - len(running)
            if self.engine.version is None:
                await asyncio.sleep(IDLE_SECONDS)
            elif free <= 0:  # a lease that is told again may be for more than there is room for by now
                await asyncio.wait(running, timeout=IDLE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            else:
                leases = await self._lease(self.engine.version, free)
                running |= {asyncio.create_task(groups.work(leased, begun)) for leased, begun in leases}
            take_ended(running)
        due = time.monotonic() + (1 - HAND_IN_SHARE) * self._recipe.generators.drain_seconds
        while running and self._leaving and not self._stopping and time.monotonic() < due:
            await asyncio.wait(running, timeout=IDLE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            take_ended(running)

    async def _leave(self, groups: Groups) -> None:
        await groups.hand_in()
        await end(self._running)
        await self._send("deregister", {})

    async def _lease(self, version: int, capacity: int) -> list[tuple[dict[str, Any], list[Partial]]]:
        try:
            body = {"version": version, "capacity": capacity}
            reply = await self._client.any("lease", body, LEASE_SECONDS, REPLY_SECONDS)
        except PeerTimeoutError as error:
            log.info("%s: %s; asking again", self._name, error)
            return []
        tasks = list(reply.body.get("tasks", []))
        return list(zip(tasks, leased_parts(reply.arrays, tasks), strict=True))

    async def _send(
        self, kind: str, body: dict[str, Any], arrays: Mapping[str, Any] | None = None
    ) -> Mapping[str, Any]:
        try:
            return (await self._client.request(kind, body, arrays)).body
        except PeerTimeoutError as error:
            log.info("%s: %s; what is lost by it will be issued again", self._name, error)
            return {}

    # ---------------------------------------------------------------- who it is

    async def _heartbeats(self) -> None:
        interval = self._recipe.membership.heartbeat_seconds
        while True:
            self._beat.clear()
            await self._client.tell("heartbeat", {"report": self._report().model_dump()})
            try:
                await asyncio.wait_for(self._beat.wait(), interval)
            except TimeoutError:
                continue

    def beat_now(self) -> None:
        self._beat.set()

    def _report(self) -> Report:
        return Report(
            ready=True,
            version=self.engine.version,
            process=self._process,
            uptime_seconds=time.monotonic() - self._started,
            progress=self.engine.groups,
            busy_seconds=self.engine.busy_seconds,
            generated_tokens=self.engine.tokens,
            groups_in_flight=self.engine.active,
            metrics=self._address,
        )

    # ---------------------------------------------------------------- weights

    async def _subscribe(self) -> None:
        """Follow the publisher that the replay's directory names; a restarted learner has a new address."""
        address, subscription = "", None
        deadline = self._recipe.weights.deadline_seconds
        try:
            while True:
                if subscription is not None and subscription.done():
                    subscription.result()
                found = await self._publisher() or address
                if found != address:
                    if subscription is not None:
                        subscription.cancel()
                        await asyncio.wait({subscription})
                    address = found
                    subscriber = FleetSubscriber(found, self._name, VersionTeller(self), deadline, self.link)
                    subscription = asyncio.create_task(subscriber.run())
                # Before the first weights it looks more often: nobody waits longer for them than it has to.
                await asyncio.sleep(self._recipe.membership.heartbeat_seconds if address else IDLE_SECONDS)
        finally:
            if subscription is not None:
                subscription.cancel()
                await asyncio.gather(subscription, return_exceptions=True)

    async def _publisher(self) -> str:
        try:
            reply = await self._client.any("directory", {}, 0.0, REPLY_SECONDS)
        except (PeerTimeoutError, ProtocolError) as error:
            log.info("%s: %s", self._name, error)
            return ""
        return str(reply.body.get("services", {}).get("weights", ""))


class VersionTeller:
    """The engine's receiving side; every new version is reported at once, for the bound on staleness."""

    def __init__(self, generator: FleetGenerator) -> None:
        self._generator, self._engine = generator, generator.engine
        self.workers = self._engine.workers
        self.open_group, self.start_update = self._engine.open_group, self._engine.start_update
        self.receive_update, self.received = self._engine.receive_update, self._engine.received
        self.abort_update = self._engine.abort_update

    @property
    def version(self) -> int | None:
        return self._engine.version

    async def finish_update(self, version: int) -> float:
        pause = await self._engine.finish_update(version)
        self._generator.beat_now()
        return pause
