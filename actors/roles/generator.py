"""The generator: one actor around one engine, which it keeps saturated with groups of completions."""

import asyncio
import logging
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from actors import process
from actors.config.recipe import Recipe
from actors.engines.protocol import Engine, RequestRejectedError, SampledCompletion
from actors.errors import PeerTimeoutError, ProtocolError
from actors.membership import Report
from actors.observability import metrics
from actors.replay.messages import MAX_DETAIL
from actors.replay.payload import Payload
from actors.roles.role import Description, Presence, RoleContext, enter
from actors.tasks.task import Task
from actors.tasks.templates import Renderer
from actors.transport.client import POLL_SECONDS, Client, Heartbeat
from actors.weights.subscriber import Subscriber

log = logging.getLogger(__name__)

#: How often an engine without weights looks whether they have come (s).
IDLE_SECONDS = 0.05


def build_engine(recipe: Recipe, model: Path, tokenizer: Any, seed: int) -> Engine:
    """The engine that the recipe names."""
    config = recipe.generators
    if config.engine == "vllm":
        from actors.engines.vllm import VllmEngine

        return VllmEngine(config, model, tokenizer, recipe.weights.backend, seed)
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
        self._presence = enter(context.recipe, context.storage.folder, context.name, context.replay)
        self._session = Session(context, self._presence)

    def describe(self) -> Description:
        return Description(self._presence.metrics)

    def stop(self) -> None:
        self._session.stopping = True

    @process.logged
    def run(self) -> None:
        asyncio.run(self._session.run())


class Session:
    """One engine's life: up, at work, down."""

    def __init__(self, context: RoleContext, presence: Presence) -> None:
        assert context.storage.model is not None
        self._recipe, self._name, self._replay = context.recipe, context.name, context.replay
        self._model, self._seed = context.storage.model, context.seed
        self._presence = presence
        self._engine: Engine | None = None
        self._held: set[tuple[str, int]] = set()
        self.stopping = False

    async def run(self) -> None:
        from transformers import AutoTokenizer

        interval = self._recipe.membership.heartbeat_seconds
        self._heartbeat = Heartbeat(self._replay, self._name, "generator", interval, self._report)
        self._leases, self._groups = (Client(self._replay, self._name, "generator") for _ in ("leases", "groups"))
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="replay-client")
        try:
            tokenizer = await asyncio.to_thread(AutoTokenizer.from_pretrained, self._model)
            self._renderer = Renderer(self._recipe.tasks, tokenizer)
            engine = build_engine(self._recipe, self._model, tokenizer, self._seed)
            await engine.start()
            self._engine = engine
            log.info("the engine is up")
            try:
                await self._until_one_ends(self._subscribe(engine), self._work(engine), self._renew(engine))
            finally:
                await engine.close()
        finally:
            self._heartbeat.close()
            self._threads.shutdown(wait=False, cancel_futures=True)  # nothing is sent on a closed connection
            for client in (self._leases, self._groups):
                client.close()

    def _report(self) -> Report:
        return metrics.report("generator", self._presence.metrics, self._engine.version if self._engine else None)

    async def _until_one_ends(self, *coroutines: Coroutine[Any, Any, None]) -> None:
        """Run all at once; where one ends or breaks, the others are cancelled. Raises what broke it."""
        tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # ---------------------------------------------------------------- work

    async def _work(self, engine: Engine) -> None:
        """Lease as many groups as fit, and let each run on its own."""
        running: set[asyncio.Task[None]] = set()
        while not self.stopping:
            free = self._recipe.generators.groups_in_flight - len(running)
            if engine.version is None:
                await asyncio.sleep(IDLE_SECONDS)
            elif free == 0:
                await asyncio.wait(running, timeout=POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            else:
                leases = await self._lease(engine.version, free)
                running |= {asyncio.create_task(self._counted(engine, leased)) for leased in leases}
            for task in [t for t in running if t.done()]:
                running.discard(task)
                task.result()
            metrics.GROUPS_IN_FLIGHT.set(len(running))
        for task in running:
            task.cancel()

    async def _counted(self, engine: Engine, leased: dict[str, Any]) -> None:
        held = (leased["purpose"], leased["group_id"])
        self._held.add(held)
        try:
            with metrics.busy("generator"):
                await self._group(engine, leased)
        finally:
            self._held.discard(held)

    async def _lease(self, version: int, capacity: int) -> list[dict[str, Any]]:
        body = {"version": version, "capacity": capacity}
        leased = await self._in_thread(self._leases.poll, "lease", body)
        return list(leased.body["tasks"]) if leased else []

    async def _renew(self, engine: Engine) -> None:
        """Renew the leases of the groups that are worked on, while the event loop and the engine do answer."""
        interval = min(self._recipe.membership.heartbeat_seconds, self._recipe.replay.lease_seconds / 3)
        while True:
            await asyncio.sleep(interval)
            if not self._held:
                continue
            await engine.ping()
            for purpose in ("train", "evaluate"):
                if group_ids := [group_id for held, group_id in self._held if held == purpose]:
                    await self._request("renew", {"purpose": purpose, "group_ids": group_ids})

    async def _group(self, engine: Engine, leased: dict[str, Any]) -> None:
        """Generate one group and submit it; one that cannot be is rejected, and the others go on."""
        lease = {"purpose": leased["purpose"], "group_id": leased["group_id"]}
        try:
            body, arrays = await self._generated(engine, leased)
            await self._request("group_arrived", lease | body, arrays)
        except RequestRejectedError as error:
            await self._reject(lease, error.reason, str(error))
        except ProtocolError as error:
            await self._reject(lease, "malformed", str(error))

    async def _generated(self, engine: Engine, leased: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Body and arrays of a complete group.

        Raises:
            RequestRejectedError, ProtocolError: there can be none.
        """
        recipe = self._recipe
        sampling = recipe.evaluation_sampling if leased["purpose"] == "evaluate" else recipe.generators.sampling
        prompt, text = self._rendered(leased)
        sampled = await engine.generate(prompt, leased["samples"], sampling)
        metrics.COMPLETIONS.inc(len(sampled))
        metrics.GENERATED_TOKENS.inc(sum(len(s.tokens) for s in sampled))
        texts = [s.text for s in sampled]
        arrays = Payload.of(payload_of(prompt, sampled).arrays(), leased["samples"]).arrays()
        size = sum(array.nbytes for array in arrays.values()) + 4 * (len(text) + sum(map(len, texts)))
        if size > recipe.replay.max_message_bytes:
            raise ProtocolError(f"a group of {size} bytes at most; raise replay.max_message_bytes")
        return {"prompt": text, "texts": texts}, arrays

    def _rendered(self, leased: dict[str, Any]) -> tuple[list[int], str]:
        """A leased task as token ids and as text. Raises RequestRejectedError where it cannot be a prompt."""
        messages = tuple((role, content) for role, content in leased["messages"])
        task, longest = Task(leased["key"], messages, "", {}), self._recipe.tasks.max_prompt_tokens
        try:
            prompt, text = self._renderer.render(task), self._renderer.text(task)
        except Exception as error:  # a template is a program of its author's, and may raise anything
            raise RequestRejectedError("malformed", f"task {task.key} is no prompt: {error}") from error
        if len(prompt) > longest:
            raise RequestRejectedError(
                "overlong", f"a prompt of {len(prompt)} tokens; tasks.max_prompt_tokens: {longest}"
            )
        return prompt, text

    async def _reject(self, lease: dict[str, Any], reason: str, detail: str) -> None:
        log.warning("%s group %d is rejected as %s: %s", lease["purpose"], lease["group_id"], reason, detail)
        body = lease | {"reason": reason, "detail": detail[:MAX_DETAIL]}
        try:
            await self._request("group_rejected", body)
        except ProtocolError as error:
            log.warning("%s; its lease expires", error)

    async def _request(self, kind: str, body: dict[str, Any], arrays: dict[str, Any] | None = None) -> None:
        """A group that cannot be submitted in time is lost here; its lease expires and the task is issued again."""
        try:
            await self._in_thread(self._groups.request, kind, body, arrays)
        except PeerTimeoutError as error:
            log.warning("%s; what is lost by it will be issued again", error)

    async def _in_thread(self, function: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    # ---------------------------------------------------------------- weights

    async def _subscribe(self, engine: Engine) -> None:
        """Follow the publisher that the replay's directory names; a restarted learner has a new address."""
        client = Client(self._replay, self._name, "generator")
        address, subscription = None, None
        try:
            while True:
                if subscription is not None and subscription.done():
                    subscription.result()
                reply = await self._in_thread(client.poll, "directory", None, 0.0)
                found = reply.body["services"].get("weights") if reply else address
                if found is not None and found != address:
                    if subscription is not None:
                        subscription.cancel()
                    address = found
                    receiver = VersionReporter(engine, self._heartbeat)
                    subscription = asyncio.create_task(Subscriber(found, self._name, receiver).run())
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

    async def open_group(self, info: dict[str, Any]) -> None:
        await self._engine.open_group(info)

    async def start_update(self) -> None:
        await self._engine.start_update()

    async def receive_update(self, info: dict[str, Any]) -> None:
        await self._engine.receive_update(info)

    async def finish_update(self, version: int) -> float:
        pause = await self._engine.finish_update(version)
        metrics.GENERATOR_VERSION.set(version)
        self._heartbeat.beat_now()
        return pause


def payload_of(prompt: list[int], sampled: list[SampledCompletion]) -> Payload:
    """The completions of one prompt in the form in which they travel."""
    spans = [span for s in sampled for span in s.spans]
    return Payload(
        prompt=np.asarray(prompt, np.int32),
        tokens=np.concatenate([s.tokens for s in sampled]),
        logprobs=np.concatenate([s.logprobs for s in sampled]),
        lengths=np.asarray([len(s.tokens) for s in sampled], np.int32),
        truncated=np.asarray([s.truncated for s in sampled], np.uint8),
        spans=np.asarray([len(s.spans) for s in sampled], np.int32),
        span_versions=np.asarray([version for version, _ in spans], np.int32),
        span_tokens=np.asarray([tokens for _, tokens in spans], np.int32),
    )
