"""The generator: one actor around one engine, which it keeps saturated with groups of completions."""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from actors import process
from actors.config.recipe import Recipe
from actors.engines.protocol import Engine, SampledCompletion
from actors.errors import PeerTimeoutError
from actors.membership import Report
from actors.observability import metrics
from actors.replay.payload import Payload
from actors.tasks.task import Task
from actors.tasks.templates import Renderer
from actors.transport.address import resolve, split
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
    """`run` works until `stop` is called; it is the body of a Ray actor, and needs no Ray itself.

    Ray calls every method of a class with coroutines in an event loop of its own, which a stopped engine could block;
    hence the session beside it.
    """

    def __init__(self, recipe: Recipe, name: str, replay: str, model: Path, folder: Path, seed: int) -> None:
        node = resolve(recipe.network, recipe.ray.address is not None, replay)
        self._metrics_port = split(process.begin(name, folder, node))[1]
        self._session = Session(recipe, name, replay, model, seed)

    def describe(self) -> dict[str, Any]:
        """Where this process is to be found."""
        return {"metrics_port": self._metrics_port}

    def stop(self) -> None:
        self._session.stopping = True

    @process.logged
    def run(self) -> None:
        asyncio.run(self._session.run())


class Session:
    """One engine's life: up, at work, down."""

    def __init__(self, recipe: Recipe, name: str, replay: str, model: Path, seed: int) -> None:
        self._recipe, self._name, self._replay, self._model = recipe, name, replay, model
        self._seed = seed
        self.stopping = False

    async def run(self) -> None:
        from transformers import AutoTokenizer

        tokenizer = await asyncio.to_thread(AutoTokenizer.from_pretrained, self._model)
        self._renderer = Renderer(self._recipe.tasks, tokenizer)
        self._engine = build_engine(self._recipe, self._model, tokenizer, self._seed)
        await self._engine.start()
        log.info("the engine is up")
        self._leases = Client(self._replay, self._name, "generator")
        self._groups = Client(self._replay, self._name, "generator")
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="replay-client")
        interval = self._recipe.membership.heartbeat_seconds
        beat = Heartbeat(self._replay, self._name, "generator", interval, lambda: Report(version=self._engine.version))
        tasks = [asyncio.create_task(self._subscribe()), asyncio.create_task(self._work())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._engine.close()
            beat.close()
            self._threads.shutdown(wait=False, cancel_futures=True)

    # ---------------------------------------------------------------- work

    async def _work(self) -> None:
        """Lease as many groups as fit, and let each run on its own."""
        running: set[asyncio.Task[None]] = set()
        while not self.stopping:
            free = self._recipe.generators.groups_in_flight - len(running)
            if self._engine.version is None:
                await asyncio.sleep(IDLE_SECONDS)
            elif free == 0:
                await asyncio.wait(running, timeout=POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            else:
                running |= {asyncio.create_task(self._counted(leased)) for leased in await self._lease(free)}
            for task in [t for t in running if t.done()]:
                running.discard(task)
                task.result()
            metrics.GROUPS_IN_FLIGHT.set(len(running))
        for task in running:
            task.cancel()

    async def _counted(self, leased: dict[str, Any]) -> None:
        with metrics.busy("generator"):
            await self._group(leased)

    async def _lease(self, capacity: int) -> list[dict[str, Any]]:
        body = {"version": self._engine.version, "capacity": capacity}
        leased = await self._in_thread(self._leases.poll, "lease", body)
        return list(leased.body["tasks"]) if leased else []

    async def _group(self, leased: dict[str, Any]) -> None:
        """Draw one group and hand it in."""
        evaluate = leased["purpose"] == "evaluate"
        sampling = self._recipe.evaluation.sampling if evaluate else self._recipe.generators.sampling
        messages = tuple((role, content) for role, content in leased["messages"])
        task = Task(leased["key"], messages, "", {})
        prompt = self._renderer.render(task)
        identity = {"purpose": leased["purpose"], "group_id": leased["group_id"]}
        if len(prompt) > self._recipe.tasks.max_prompt_tokens:
            await self._submit("group_rejected", identity | {"reason": "overlong"}, {})
            return
        drawn = await self._engine.generate(prompt, leased["samples"], sampling)
        metrics.COMPLETIONS.inc(len(drawn))
        metrics.GENERATED_TOKENS.inc(sum(len(d.tokens) for d in drawn))
        body = identity | {"prompt": self._renderer.text(task), "texts": [d.text for d in drawn]}
        await self._submit("group_arrived", body, payload_of(prompt, drawn).arrays())

    async def _submit(self, kind: str, body: dict[str, Any], arrays: dict[str, Any]) -> None:
        """A group that cannot be handed in is lost here; its lease expires and the task is issued again."""
        try:
            await self._in_thread(self._groups.request, kind, body, arrays)
        except PeerTimeoutError as error:
            log.warning("%s; the group is lost and its task will be issued again", error)

    async def _in_thread(self, function: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    # ---------------------------------------------------------------- weights

    async def _subscribe(self) -> None:
        """Follow the publisher that the replay's directory names; a restarted learner has a new address."""
        client = Client(self._replay, self._name, "generator")
        address, subscription = None, None
        try:
            while True:
                if subscription is not None and subscription.done():
                    subscription.result()
                reply = await self._in_thread(client.poll, "directory", None, 0.0)
                found = reply.body["services"].get("weights") if reply else address
                if found != address:
                    if subscription is not None:
                        subscription.cancel()
                    address = found
                    receiver = Announcing(self._engine, client, self._threads)
                    subscription = asyncio.create_task(Subscriber(found, self._name, receiver).run())
                await asyncio.sleep(POLL_SECONDS)
        finally:
            if subscription is not None:
                subscription.cancel()
                await asyncio.gather(subscription, return_exceptions=True)
            client.close()


class Announcing:
    """An engine's receiving side that tells the replay about every new version, for the bound on staleness."""

    def __init__(self, engine: Engine, client: Client, threads: ThreadPoolExecutor) -> None:
        self._engine, self._client, self._threads = engine, client, threads
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
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._threads, self._client.request, "heartbeat", {"version": version})
        return pause


def payload_of(prompt: list[int], drawn: list[SampledCompletion]) -> Payload:
    """The completions of one prompt in the form in which they travel."""
    spans = [span for d in drawn for span in d.spans]
    return Payload(
        prompt=np.asarray(prompt, np.int32),
        tokens=np.concatenate([d.tokens for d in drawn]),
        logprobs=np.concatenate([d.logprobs for d in drawn]),
        lengths=np.asarray([len(d.tokens) for d in drawn], np.int32),
        truncated=np.asarray([d.truncated for d in drawn], np.uint8),
        spans=np.asarray([len(d.spans) for d in drawn], np.int32),
        span_versions=np.asarray([version for version, _ in spans], np.int32),
        span_tokens=np.asarray([tokens for _, tokens in spans], np.int32),
    )
