"""A replay without its socket, and short words for what its clients say."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from actors.replay import messages as m
from actors.replay.buffer import Buffer
from actors.replay.limits import ReplayLimits
from actors.replay.payload import Payload
from actors.replay.reply import Reply
from actors.transport.codec import Message, parse


class Sums:
    """A task source for tests: task n is n + n."""

    held_out = 3

    def train(self, index: int) -> Mapping[str, Any]:
        messages = [["user", f"{index}+{index}="]]
        return {
            "key": f"t{index}",
            "messages": messages,
            "verifier": "exact",
            "reference": {},
            "source": "odd" if index % 2 else "even",
        }

    def evaluate(self, index: int) -> Mapping[str, Any]:
        return {**self.train(index), "key": f"h{index}"}


def payload(version: int = 0, samples: int = 2) -> Payload:
    return Payload(
        prompt=np.array([1, 2], np.int32),
        tokens=np.arange(3 * samples, dtype=np.int32),
        logprobs=np.full(3 * samples, -0.5, np.float32),
        lengths=np.full(samples, 3, np.int32),
        truncated=np.zeros(samples, np.uint8),
        spans=np.ones(samples, np.int32),
        span_versions=np.full(samples, version, np.int32),
        span_tokens=np.full(samples, 3, np.int32),
    )


class World:
    """A buffer and short words for what its clients say; `last` is the latest reply."""

    def __init__(self, **limits: Any) -> None:
        self.buffer = Buffer(ReplayLimits(**({"max_staleness": 1, "groups_per_batch": 1} | limits)), 2, Sums())
        self.now = 0.0
        self.reported_version = 0
        self.last = Reply({})

    def say(self, kind: str, role: str, arrays: Mapping[str, Any] | None = None, number: int = 1, **body: Any) -> Any:
        request = parse(Message(kind, number, {"worker": role, "role": role, **body}), m.REQUESTS)
        assert isinstance(request, m.BufferRequest)
        reply = self.buffer.answer(request, arrays or {}, self.now, self.reported_version, number)
        self.last = reply or Reply({})
        return None if reply is None else dict(reply.body) | {"arrays": reply.arrays}

    def lease(self, capacity: int = 1, version: int = 0) -> list[dict[str, Any]]:
        reply = self.say("lease", "generator", version=version, capacity=capacity)
        return reply["tasks"] if reply else []

    def submit(self, task: Mapping[str, Any], version: int = 0) -> Any:
        samples = task["samples"]
        return self.say(
            "group_arrived",
            "generator",
            payload(version, samples).arrays(),
            purpose=task["purpose"],
            group_id=task["group_id"],
            prompt="p",
            texts=["a"] * samples,
        )

    def reject(self, task: Mapping[str, Any], reason: str, detail: str = "") -> Any:
        lease = {"purpose": task["purpose"], "group_id": task["group_id"]}
        return self.say("group_rejected", "generator", **lease, reason=reason, detail=detail)

    def score(self, accuracies: list[float] | None, answers: list[str] | None = None, **more: Any) -> Any:
        (group,) = self.say("lease_verification", "verifier", capacity=1)["groups"]
        lease = {"purpose": group["purpose"], "group_id": group["group_id"]}
        if accuracies is None:
            return self.say("verdict", "verifier", **lease, scores=None, **more)
        names = answers or [str(a) for a in accuracies]
        scores = [
            {"status": "ok", "reward": a, "parts": {"accuracy": a}, "answer": name}
            for a, name in zip(accuracies, names, strict=True)
        ]
        return self.say("verdict", "verifier", **lease, scores=scores)
