"""Weight updates for engines that are under test: versions of a model, who publishes and who receives them, and what
each version says of a completion.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from actors.config.network import NetworkConfig
from actors.config.roles import SamplingConfig, WeightsConfig
from actors.engines.protocol import SampledCompletion
from actors.engines.vllm import VllmEngine
from actors.events import WeightSync
from actors.transport.address import resolve
from actors.weights.publisher import Publisher
from actors.weights.subscriber import Subscriber
from learner.model.merging import Merging

SAMPLING = SamplingConfig(max_tokens=100)
PROMPT = [8, 9, 10, 11]


@torch.no_grad()
def logprobs_of(policy: Any, tokens: np.ndarray) -> np.ndarray:
    """Of the tokens of a completion of `PROMPT`, in one pass (nats)."""
    ids = torch.tensor([PROMPT + tokens.tolist()])
    logits = policy(ids).logits[0, len(PROMPT) - 1 : -1]
    found: np.ndarray = logits.log_softmax(-1).gather(1, ids[0, len(PROMPT) :, None])[:, 0].numpy()
    return found


@torch.no_grad()
def move(tensors: Iterable[torch.Tensor]) -> None:
    """Away from where they are, in place, each of their numbers."""
    for tensor in tensors:
        tensor.add_(0.1 * torch.randn_like(tensor))


def policies(model: Path, count: int) -> list[Any]:
    """Versions of the model that differ in every parameter."""
    made = []
    for version in range(count):
        torch.manual_seed(version)
        policy = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
        move(policy.parameters())
        made.append(policy)
    return made


def publisher_for(
    bucket_bytes: int, on_sync: Callable[[WeightSync], None], merging: Merging | None = None
) -> Publisher:
    return Publisher(
        WeightsConfig(bucket_bytes=bucket_bytes, delta=True),
        resolve(NetworkConfig(), in_cluster=False),
        torch.float32,
        alive=lambda: frozenset({"g0", "g1"}),
        timeout_seconds=60,
        on_sync=on_sync,
        merging=merging,
    )


async def published(publisher: Publisher, version: int, policy: Any) -> None:
    publisher.publish(version, [(name, p.detach()) for name, p in policy.named_parameters()])
    assert await asyncio.to_thread(publisher.wait, version, 60)


async def generated_across(
    update: Awaitable[None], generate: Callable[[], Awaitable[list[SampledCompletion]]], begun: Callable[[], bool]
) -> list[SampledCompletion]:
    """Completions of which some are under way while an update arrives, however quick the engine is.

    Several groups are, at any time; whenever one is finished another is begun, until the update is there.

    Args:
        update: is begun once completions are.
        generate: one group of completions.
        begun: whether an engine has sampled some of the first tokens.

    Returns:
        The completions of the groups that spanned it.
    """
    there = asyncio.Event()

    async def generate_until_there() -> list[SampledCompletion]:
        spanning: list[SampledCompletion] = []
        while not there.is_set():
            group = await generate()
            spanning += group if any(len(d.spans) > 1 for d in group) else []
        return spanning

    going = [asyncio.create_task(generate_until_there()) for _ in range(8)]
    async with asyncio.timeout(60):
        while not begun():
            await asyncio.sleep(0.001)
    await update
    there.set()
    return [d for spanning in await asyncio.gather(*going) for d in spanning]


@contextlib.asynccontextmanager
async def subscribed(publisher: Publisher, engines: list[VllmEngine]) -> AsyncIterator[None]:
    subscriptions = [
        asyncio.create_task(Subscriber(publisher.endpoint, f"g{i}", e, 60.0).run()) for i, e in enumerate(engines)
    ]
    try:
        async with asyncio.timeout(60):  # an update goes to whoever has registered
            while len(publisher.registered) < len(engines):
                await asyncio.sleep(0.001)
        yield
    finally:
        for subscription in subscriptions:
            subscription.cancel()
        await asyncio.gather(*subscriptions, return_exceptions=True)
        publisher.close()
