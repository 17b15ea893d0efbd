"""The generator: one actor around one engine, which it keeps saturated with groups of completions.

at work ──drain──▶ no new lease ──all done, or out of time──▶ progress handed in ──▶ deregistered ──▶ `run` returns
   └──stop──▶ `run` returns: the run is over, and nobody wants what there is
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from actors import process
from actors.concurrency import end, first_of, take_ended
from actors.config.recipe import Recipe
from actors.engines.protocol import Engine
from actors.errors import PeerTimeoutError
from actors.membership import Report
from actors.models.tokenizer import load_tokenizer
from actors.observability import metrics
from actors.observability.reporting import report
from actors.replay.clients import connect
from actors.replay.progress import Partial, leased_parts
from actors.roles.groups import Groups
from actors.roles.role import LEAVE_SECONDS, Description, Presence, RoleContext, enter
from actors.tasks.templates import Renderer
from actors.transport.client import POLL_SECONDS, Heartbeat
from actors.weights.subscriber import Subscriber

log = logging.getLogger(__name__)

#: How often an engine without weights looks whether they have come (s).
IDLE_SECONDS = 0.05
#: Share of the time to leave that handing in and taking the engine down get.
HAND_IN_SHARE = 0.2


def build_engine(recipe: Recipe, model: Path, tokenizer: Any, seed: int) -> Engine:
    """The engine that the recipe names."""
    config = recipe.generators.model_copy(update={"seeded": recipe.seeded})
    if config.engine == "vllm":
        from actors.engines.vllm import VllmEngine

        return VllmEngine(config, model, tokenizer, seed, routed_experts=recipe.learner.router_replay)
    if config.engine == "transformers":
        from actors.engines.transformers import TransformersEngine

        return TransformersEngine(config, model, tokenizer, seed)
    from actors.engines.synthetic import SyntheticEngine

    return SyntheticEngine(config, tokenizer, seed)


class Generator:
    """A role, see `actors.roles.role`; it needs no Ray itself.

    Ray would call every method of a class with coroutines in an event loop of its own, which a stopped engine could
    block; hence the session beside it.
    """

    def __init__(self, context: RoleContext) -> None:
        self._presence = enter(context.recipe, context.storage.folder, context.name, "generator", context.replay)
        self._session = Session(context, self._presence)

    def describe(self) -> Description:
        return Description(self._presence.metrics)

    def stop(self) -> None:
        self._session.stopping = True

    def drain(self) -> None:
        """Leave the run, which goes on, within `generators.drain_seconds`."""
        self._session.leaving = True

    @process.logged
    def run(self) -> None:
        asyncio.run(self._session.run())


class Session:
    """One engine's life: up, at work, down."""

    def __init__(self, context: RoleContext, presence: Presence) -> None:
        assert context.storage.model is not None
        self._recipe, self._name, self._replay = context.recipe, context.name, context.lifeline
        self._storage, self._seed = context.storage, context.seed
        self._presence = presence
        self.working: Groups | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._left = False
        self.stopping = self.leaving = False

    async def run(self) -> None:
        interval = self._recipe.membership.heartbeat_seconds
        self._heartbeat = Heartbeat(self._replay, self._name, "generator", interval, self._report)
        self._leases, self._groups = (connect(self._replay, self._name, "generator") for _ in ("leases", "groups"))
        # What waits for a shard of the replay that is away must not hold up what is for another.
        waiting = self._recipe.generators.groups_in_flight if self._recipe.replay.shards > 1 else 0
        self._threads = ThreadPoolExecutor(4 + waiting, thread_name_prefix="replay-client")
        try:
            model = await asyncio.to_thread(lambda: self._storage.model_folder)
            tokenizer = await asyncio.to_thread(load_tokenizer, model)
            renderer = Renderer(self._recipe.tasks, tokenizer)
            engine = build_engine(self._recipe, model, tokenizer, self._seed)
            await engine.start()
            log.info("the engine is up")
            groups = self.working = Groups(self._recipe, renderer, engine, self._request)
            try:
                await first_of(self._subscribe(engine), self._work(engine, groups), groups.renew())
                if self.leaving:
                    await self._leave(groups)
            finally:
                for task in self._running:
                    task.cancel()
                await engine.close()
        finally:
            if not self._left:
                self._heartbeat.close()
            self._threads.shutdown(wait=False, cancel_futures=True)  # nothing is sent on a closed connection
            for client in (self._leases, self._groups):
                client.close()

    def tell_version(self) -> None:
        """Let the replay know the engine's version at once: what it may lease depends on it."""
        self._heartbeat.beat_now()

    def _report(self) -> Report:
        """Called by the heartbeat's thread, which goes on where the event loop does not."""
        if (groups := self.working) is None:
            return report("generator", self._presence.metrics, ready=False)
        unanswered = time.monotonic() - groups.answered
        return report(
            "generator", self._presence.metrics, groups.engine.version, ready=True, unanswered_seconds=unanswered
        )

    # ---------------------------------------------------------------- work

    async def _work(self, engine: Engine, groups: Groups) -> None:
        """Lease as many groups as fit, and let each run on its own."""
        running = self._running
        while not self.stopping and not self.leaving:
            free = self._recipe.generators.groups_in_flight - len(running)
            if engine.version is None:
                await asyncio.sleep(IDLE_SECONDS)
            elif free <= 0:  # a lease that is told again may be for more than there is room for by now
                await asyncio.wait(running, timeout=POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            else:
                leases = await self._lease(engine.version, free)
                running |= {asyncio.create_task(groups.work(leased, begun)) for leased, begun in leases}
            self._take_ended()
        if self.leaving:
            await self._finish()

    def _take_ended(self) -> None:
        take_ended(self._running)
        metrics.GROUPS_IN_FLIGHT.set(len(self._running))

    async def _finish(self) -> None:
        """Wait for what is under way, as long as there is time."""
        running = self._running
        seconds = (1 - HAND_IN_SHARE) * self._recipe.generators.drain_seconds
        log.info("leaving: %d groups are under way, for %g s at most", len(running), seconds)
        began = time.monotonic()
        while not self.stopping and (waited := time.monotonic() - began) < seconds:
            if not running and waited >= min(LEAVE_SECONDS, seconds):
                break
            await asyncio.sleep(IDLE_SECONDS)
            self._take_ended()

    async def _leave(self, groups: Groups) -> None:
        """Hand in what could not be finished, and deregister."""
        self._left, unfinished = True, len(self._running)
        try:
            await asyncio.wait_for(self._hand_in(groups), HAND_IN_SHARE * self._recipe.generators.drain_seconds)
            log.info("left; %d groups are handed in as they are", unfinished)
        except TimeoutError:
            log.warning("the replay did not take everything in time; what it lacks is generated again")

    async def _hand_in(self, groups: Groups) -> None:
        """Deregistering comes last: whatever is sent afterwards would put this process on the list again."""
        await groups.hand_in()
        await end(self._running)
        earlier, self._threads = self._threads, ThreadPoolExecutor(1, thread_name_prefix="replay-client")
        await self._in_thread(partial(earlier.shutdown, cancel_futures=True))
        await self._in_thread(self._heartbeat.close)
        await self._request("deregister", {})

    async def _lease(self, version: int, capacity: int) -> list[tuple[dict[str, Any], list[Partial]]]:
        """Leased tasks, each with what was sampled of it before."""
        body = {"version": version, "capacity": capacity}
        leased = await self._in_thread(self._leases.poll, "lease", body)
        if leased is None:
            return []
        tasks = list(leased.body["tasks"])
        return list(zip(tasks, leased_parts(leased.arrays, tasks), strict=True))

    async def _request(
        self, kind: str, body: dict[str, Any], arrays: Mapping[str, Any] | None = None
    ) -> Mapping[str, Any]:
        """A group that cannot be submitted in time is lost here; its lease expires and the task is issued again."""
        try:
            answer: Mapping[str, Any] = (await self._in_thread(self._groups.request, kind, body, arrays)).body
        except PeerTimeoutError as error:
            log.warning("%s; what is lost by it will be issued again", error)
            return {}
        return answer

    async def _in_thread(self, function: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    # ---------------------------------------------------------------- weights

    async def _subscribe(self, engine: Engine) -> None:
        """Follow the publisher that the replay's directory names; a restarted learner has a new address."""
        client = connect(self._replay, self._name, "generator")
        address, subscription = None, None
        try:
            while True:
                if subscription is not None and subscription.done():
                    subscription.result()
                reply = await self._in_thread(client.poll, "directory", None, 0.0)
                found = reply.body["services"].get("weights") if reply else address
                if found is not None and found != address:
                    if subscription is not None:
                        # It gives up what the learner before has begun; only then may another begin.
                        subscription.cancel()
                        await asyncio.wait({subscription})
                        if not subscription.cancelled():
                            subscription.result()
                    address = found
                    receiver = VersionReporter(engine, self._heartbeat)
                    deadline = self._recipe.weights.deadline_seconds
                    subscription = asyncio.create_task(Subscriber(found, self._name, receiver, deadline).run())
                await asyncio.sleep(POLL_SECONDS)
        finally:
            if subscription is not None:
                subscription.cancel()
                await asyncio.gather(subscription, return_exceptions=True)
            client.close()


class VersionReporter:
    """An engine's receiving side that tells the replay about every new version at once, for the bound on staleness."""

    def __init__(self, engine: Engine, heartbeat: Heartbeat) -> None:
        self._engine, self._heartbeat = engine, heartbeat
        self.workers = engine.workers

    @property
    def version(self) -> int | None:
        return self._engine.version

    async def open_group(self, info: dict[str, Any]) -> None:
        await self._engine.open_group(info)

    async def start_update(self) -> None:
        await self._engine.start_update()

    async def receive_update(self, info: dict[str, Any]) -> None:
        await self._engine.receive_update(info)

    async def received(self) -> None:
        await self._engine.received()

    async def finish_update(self, version: int) -> float:
        pause = await self._engine.finish_update(version)
        metrics.GENERATOR_VERSION.set(version)
        self._heartbeat.beat_now()
        return pause

    async def abort_update(self) -> None:
        await self._engine.abort_update()
