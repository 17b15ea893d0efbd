"""One leased task after another: from a prompt to a group that is submitted, or rejected with a reason."""

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from actors.config.recipe import Recipe
from actors.engines.protocol import Engine, RequestRejectedError, SampledCompletion
from actors.errors import ProtocolError
from actors.observability import metrics
from actors.replay.messages import MAX_DETAIL
from actors.replay.payload import Payload
from actors.tasks.task import Task
from actors.tasks.templates import Renderer
from actors.transport.codec import Array

log = logging.getLogger(__name__)


class Sends(Protocol):
    """Sends a request to the replay. Raises ProtocolError where it is refused."""

    async def __call__(self, kind: str, body: dict[str, Any], arrays: Mapping[str, Array] | None = None) -> None: ...


class Groups:
    """What one engine works on. A task that cannot become a group ends nothing but itself.

    Attributes:
        engine: the engine.
        answered: when event loop and engine last answered, in seconds of the monotonic clock.
    """

    def __init__(self, recipe: Recipe, renderer: Renderer, engine: Engine, send: Sends) -> None:
        self._recipe, self._renderer, self.engine, self._send = recipe, renderer, engine, send
        self._held: set[tuple[str, int]] = set()
        self.answered = time.monotonic()

    async def work(self, leased: dict[str, Any]) -> None:
        """Generate the group of a lease and submit it."""
        held = (leased["purpose"], leased["group_id"])
        self._held.add(held)
        try:
            with metrics.busy("generator"):
                await self._group(leased)
        finally:
            self._held.discard(held)

    async def renew(self) -> None:
        """While the event loop and the engine do answer, take note of it and renew the leases of what is worked on."""
        interval = min(self._recipe.membership.heartbeat_seconds, self._recipe.replay.lease_seconds / 3)
        while True:
            await asyncio.sleep(interval)
            await self.engine.ping()
            self.answered = time.monotonic()
            for purpose in ("train", "evaluate"):
                if group_ids := [group_id for held, group_id in self._held if held == purpose]:
                    await self._send("renew", {"purpose": purpose, "group_ids": group_ids})

    async def _group(self, leased: dict[str, Any]) -> None:
        """Generate one group and submit it; one that cannot be is rejected, and the others go on."""
        lease = {"purpose": leased["purpose"], "group_id": leased["group_id"]}
        try:
            body, arrays = await self._generated(leased)
            await self._send("group_arrived", lease | body, arrays)
        except RequestRejectedError as error:
            await self._reject(lease, error.reason, str(error))
        except ProtocolError as error:
            await self._reject(lease, "malformed", str(error))

    async def _generated(self, leased: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Body and arrays of a complete group.

        Raises:
            RequestRejectedError, ProtocolError: there can be none.
        """
        recipe = self._recipe
        sampling = recipe.evaluation_sampling if leased["purpose"] == "evaluate" else recipe.generators.sampling
        prompt, text = self._rendered(leased)
        sampled = await self.engine.generate(prompt, leased["samples"], sampling)
        metrics.COMPLETIONS.inc(len(sampled))
        metrics.GENERATED_TOKENS.inc(sum(len(s.tokens) for s in sampled))
        texts = [s.text for s in sampled]
        arrays = Payload.of(payload_of(prompt, sampled).arrays(), leased["samples"]).arrays()
        # The replay would hang up on a larger one without a word.
        size = sum(array.nbytes for array in arrays.values()) + sum(len(t.encode(errors="replace")) for t in texts)
        if size > recipe.replay.max_message_bytes:
            raise ProtocolError(f"the group has {size} bytes; raise replay.max_message_bytes")
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
            await self._send("group_rejected", body)
        except ProtocolError as error:
            log.warning("%s; its lease expires", error)


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
