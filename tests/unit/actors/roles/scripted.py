"""A generator's groups around an engine that answers with what it is given, and a replay that takes anything."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from actors.config.loading import load
from actors.config.recipe import Recipe
from actors.config.roles import SamplingConfig
from actors.engines.protocol import Job, SampledCompletion
from actors.engines.synthetic import SyntheticEngine
from actors.errors import ProtocolError
from actors.replay.progress import NOTHING, Partial, decode_progress
from actors.roles.groups import Groups
from actors.tasks.templates import Renderer

QUICKSTART = Path(__file__).parents[4] / "recipes" / "quickstart.yaml"


def completion(spans: tuple[tuple[int, int], ...], truncated: bool = False, **changes: Any) -> SampledCompletion:
    length = sum(tokens for _, tokens in spans)
    fields = {"tokens": np.arange(length, dtype=np.int32), "logprobs": np.full(length, -0.5, np.float32)} | changes
    return SampledCompletion(fields["tokens"], fields["logprobs"], spans, truncated, fields.get("text", "text"))


class Characters:
    """A tokenizer whose token ids are code points; it cannot encode half of an emoji, as no tokenizer can."""

    chat_template = None

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:  # noqa: ARG002 - a fake
        text.encode()
        return [ord(character) for character in text]

    def apply_chat_template(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("the template is raw")


class ScriptedEngine(SyntheticEngine):
    """Answers with whatever it is given; an exception is raised."""

    def __init__(self, answer: SampledCompletion | Exception) -> None:
        self.answer, self.pings = answer, 0
        self.asked: list[SamplingConfig] = []
        self.jobs: list[Job | None] = []
        self.version = 0

    async def generate(
        self, _: list[int], samples: int, sampling: SamplingConfig, job: Job | None = None
    ) -> list[SampledCompletion]:
        self.asked.append(sampling)
        self.jobs.append(job)
        if isinstance(self.answer, Exception):
            raise self.answer
        return [self.answer] * samples

    async def ping(self) -> None:
        self.pings += 1
        if isinstance(self.answer, OSError):
            raise self.answer


class Replay:
    """Takes requests; refuses those whose kind is named. `lost` are the groups whose lease it has given to others.

    Attributes:
        told: kind and body of each request.
        known: what was reported of each completion, by group.
    """

    def __init__(self, refuses: str = "", lost: Sequence[int] = ()) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.refuses, self.lost = refuses, lost
        self.known: dict[int, list[Partial]] = {}

    async def __call__(
        self, kind: str, body: dict[str, Any], arrays: Mapping[str, Any] | None = None
    ) -> Mapping[str, Any]:
        assert (arrays is not None) == (kind in ("group_arrived", "progress"))
        self.told.append((kind, body))
        if kind == self.refuses:
            raise ProtocolError(f"the replay refused {kind}: token 70000 of a model with 64 token ids")
        if kind == "renew":
            return {"lost": [group_id for group_id in body["group_ids"] if group_id in self.lost]}
        if kind == "progress":
            assert arrays is not None
            parts, offsets = decode_progress(arrays, 2)
            before = self.known.get(body["group_id"], [NOTHING, NOTHING])
            assert offsets == [len(p) for p in before]
            self.known[body["group_id"]] = [old.plus(new) for old, new in zip(before, parts, strict=True)]
            return {"held": [len(p) for p in self.known[body["group_id"]]]}
        return {}

    def renewed(self) -> list[list[int]]:
        return [body["group_ids"] for kind, body in self.told if kind == "renew"]


def lease(prompt: str = "1+1=", purpose: str = "train") -> dict[str, Any]:
    return {"purpose": purpose, "group_id": 7, "task": 3, "key": "k", "messages": [["user", prompt]], "samples": 2}


def recipe(*changes: str) -> Recipe:
    return load(QUICKSTART, ["tasks.template=raw", "tasks.max_prompt_tokens=16", "cold_start=null", *changes])


def worked(
    answer: SampledCompletion | Exception, leased: dict[str, Any], replay: Replay, *changes: str
) -> ScriptedEngine:
    tree, engine = recipe(*changes), ScriptedEngine(answer)
    asyncio.run(Groups(tree, Renderer(tree.tasks, Characters()), engine, replay).work(leased))
    return engine


GOOD = completion(((0, 3),))
