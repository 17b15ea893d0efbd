"""One leased task after another: from a prompt to a group that is submitted, or rejected with a reason.

A lease is renewed when its group has a new token, and while it waits for its first one when its engine has sampled any.
So what is stuck loses its lease, however alive its generator is; and what was reported of it is continued elsewhere.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from actors.config.recipe import Recipe
from actors.engines.protocol import Engine, Job, RequestRejectedError, SampledCompletion, seed_from
from actors.errors import ProtocolError
from actors.observability import metrics
from actors.replay.messages import MAX_DETAIL, by_purpose
from actors.replay.payload import Payload
from actors.replay.progress import Partial, encode_progress
from actors.tasks.task import Task
from actors.tasks.templates import Renderer
from actors.transport.codec import Array
from learner.batch import RoutedExperts

log = logging.getLogger(__name__)

#: What groups are generated for, as the seed of a group has it.
PURPOSES = ("train", "evaluate", "sample")


class Sends(Protocol):
    """Sends a request to the replay; returns the body of its answer, empty where none came in time.

    Raises ProtocolError where it is refused.
    """

    async def __call__(
        self, kind: str, body: dict[str, Any], arrays: Mapping[str, Array] | None = None
    ) -> Mapping[str, Any]: ...


@dataclass(slots=True)
class GroupInFlight:
    """A leased group under way.

    Attributes:
        lease: purpose and group_id.
        job: how far it is.
        work: its coroutine.
        renewed: tokens of all completions when the lease was renewed last.
        known: tokens of each completion that the replay has.
        told: tokens of each completion when they were reported last.
        since: when it was renewed last, in seconds of the monotonic clock.
        lost: whether the lease is over.
    """

    lease: dict[str, Any]
    job: Job
    work: "asyncio.Task[Any] | None"
    renewed: int
    known: Sequence[int]
    told: Sequence[int]
    since: float
    lost: bool = False

    @classmethod
    def of(cls, leased: Mapping[str, Any], job: Job) -> "GroupInFlight":
        lease = {"purpose": leased["purpose"], "group_id": leased["group_id"]}
        begun = job.lengths()
        return cls(lease, job, asyncio.current_task(), sum(begun), begun, begun, time.monotonic())

    def advanced(self, moved: bool) -> bool:
        """Whether the lease is to be renewed; `moved` says whether the engine has sampled anything."""
        tokens = sum(self.job.lengths())
        waits = tokens == sum(map(len, self.job.begun))
        before, self.renewed = self.renewed, tokens
        if tokens <= before and not (waits and moved):
            return False
        self.since = time.monotonic()
        return True

    def unreported(self) -> int:
        """New tokens of the completion that has the most."""
        return max(now - before for now, before in zip(self.job.lengths(), self.told, strict=True))


class Groups:
    """What one engine works on. A task that cannot become a group ends nothing but itself.

    Attributes:
        engine: the engine.
        answered: when event loop and engine last answered, in seconds of the monotonic clock.
    """

    def __init__(self, recipe: Recipe, renderer: Renderer, engine: Engine, send: Sends) -> None:
        self._recipe, self._renderer, self.engine, self._send = recipe, renderer, engine, send
        self._held: dict[tuple[str, int], GroupInFlight] = {}
        self._sampled = (0, 0)
        self.finished = 0
        self.answered = time.monotonic()

    async def work(self, leased: dict[str, Any], begun: Sequence[Partial] = ()) -> None:
        """Generate the group of a lease, or what `begun` leaves of it, and submit it."""
        job = Job(leased["samples"], self._seed(leased), begun)
        key = (leased["purpose"], leased["group_id"])
        held = self._held[key] = GroupInFlight.of(leased, job)
        try:
            with metrics.busy("generator"):
                await self._group(leased, held)
        except asyncio.CancelledError:
            if not held.lost:
                raise
            log.info("%s group %d is given up: its lease is over", *key)
        finally:
            del self._held[key]
            self.finished += 1

    def _seed(self, leased: Mapping[str, Any]) -> int | None:
        """What the group is sampled with: the same wherever and whenever the task is leased at this version."""
        if not self._recipe.seeded:
            return None
        purpose = PURPOSES.index(leased["purpose"])
        return seed_from(self._recipe.seed, purpose, leased["task"], self.engine.version or 0)

    # ---------------------------------------------------------------- leases and progress

    async def renew(self) -> None:
        """While the event loop and the engine do answer, take note of it, renew leases and report progress."""
        interval = min(self._recipe.membership.heartbeat_seconds, self._recipe.replay.lease_seconds / 3)
        while True:
            await asyncio.sleep(interval)
            await self.engine.ping()
            self.answered = time.monotonic()
            await self._renew()
            enough = self._recipe.generators.progress_tokens
            await self._report(held for held in list(self._held.values()) if held.unreported() >= enough)

    async def hand_in(self) -> None:
        """Report all that there is, since it will be continued elsewhere."""
        await self._report(held for held in list(self._held.values()) if sum(held.job.lengths()) > sum(held.known))

    async def _renew(self) -> None:
        sampled = (self.finished, sum(sum(held.job.lengths()) for held in self._held.values()))
        moved, self._sampled = sampled != self._sampled, sampled
        advanced = [held.lease for held in self._held.values() if held.advanced(moved)]
        for purpose, group_ids in by_purpose(advanced).items():
            answer = await self._send("renew", {"purpose": purpose, "group_ids": group_ids})
            self._give_up(purpose, answer.get("lost", ()))
        over = time.monotonic() - self._recipe.replay.lease_seconds
        for stuck in [held.lease for held in self._held.values() if held.since < over]:
            purpose, group_id = stuck["purpose"], stuck["group_id"]
            log.warning("%s group %d is stuck: no new token within replay.lease_seconds", purpose, group_id)
            self._give_up(purpose, [group_id])

    async def _report(self, groups: Iterable[GroupInFlight]) -> None:
        for held in groups:
            parts = held.job.so_far()
            if held.lease["purpose"] != "train":
                parts = [replace(part, routed_experts=None) for part in parts]  # they are replayed in training alone
            held.told = [len(part) for part in parts]
            arrays = encode_progress(parts, held.known)
            if sum(array.nbytes for array in arrays.values()) > self._recipe.replay.max_message_bytes // 2:
                continue  # the replay would hang up, and has refused to keep what was before
            try:
                answer = await self._send("progress", held.lease, arrays)
            except ProtocolError as error:
                log.warning("%s; what there is of group %d stays here", error, held.lease["group_id"])
                continue
            held.known = answer.get("held", held.known)
            self._give_up(held.lease["purpose"], answer.get("lost", ()))

    def _give_up(self, purpose: str, group_ids: Iterable[int]) -> None:
        """Stop work on what somebody else has, or nobody wants any more."""
        for group_id in group_ids:
            held = self._held.get((purpose, group_id))
            if held is not None and held.work is not None:
                held.lost = True
                held.work.cancel()

    # ---------------------------------------------------------------- one group

    async def _group(self, leased: dict[str, Any], held: GroupInFlight) -> None:
        """Generate one group and submit it; one that cannot be is rejected, and the others go on."""
        try:
            body, arrays = await self._generated(leased, held.job)
            await self._send("group_arrived", held.lease | body, arrays)
        except RequestRejectedError as error:
            await self._reject(held.lease, error.reason, str(error))
        except ProtocolError as error:
            await self._reject(held.lease, "malformed", str(error))

    async def _generated(self, leased: dict[str, Any], job: Job) -> tuple[dict[str, Any], dict[str, Any]]:
        """Body and arrays of a complete group.

        Raises:
            RequestRejectedError, ProtocolError: there can be none.
        """
        recipe = self._recipe
        sampling = recipe.evaluation_sampling if leased["purpose"] == "evaluate" else recipe.generators.sampling
        prompt, text = self._rendered(leased)
        sampled = await self.engine.generate(prompt, leased["samples"], sampling, job)
        metrics.COMPLETIONS.inc(len(sampled))
        metrics.GENERATED_TOKENS.inc(sum(len(s.tokens) for s in sampled))
        texts = [s.text for s in sampled]
        replayed = recipe.learner.router_replay and leased["purpose"] == "train"
        arrays = Payload.of(payload_of(prompt, sampled, replayed).arrays(), leased["samples"]).arrays()
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


def payload_of(prompt: list[int], sampled: list[SampledCompletion], replayed: bool = False) -> Payload:
    """The completions of one prompt in the form in which they travel; with `replayed`, where their tokens went, too."""
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
        routed_experts=_routed_experts(len(prompt), sampled) if replayed else None,
    )


def _routed_experts(prompt: int, sampled: list[SampledCompletion]) -> RoutedExperts | None:
    """Where the tokens of all completions of one prompt went, as in `Payload`.

    Of one that had ended before another engine took the group over it came with what was handed on. None where one of
    them had not, but is as long as this engine lets it be: nobody has read all of it.

    Raises:
        ProtocolError: an engine says it of other tokens.
    """
    known = [s.routed_experts for s in sampled if s.routed_experts is not None]
    if len(known) < len(sampled):
        return None
    rows = [prompt + len(s.tokens) - 1 for s in sampled]
    if [len(own) for own in known] != rows or len({own.shape[1] for own in known}) > 1:
        raise ProtocolError("the engine does not say of every token that it read which experts it went to")
    whole: RoutedExperts = np.concatenate([known[0][:prompt], *(own[prompt:] for own in known)])
    return whole.reshape(-1)
