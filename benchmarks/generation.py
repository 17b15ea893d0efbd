"""`python -m benchmarks generation`: one generator, from lease to submission, beside bare vLLM.

The same engine answers the same prompts in turn: through a generator at a replay in another process, and by vLLM's own
`generate`, which is given all of them at once. What differs is what a generator does besides: leases and their renewal,
templates, texts, payloads, heartbeats. The machine may have other work, so times are of the CPU, too.
"""

from __future__ import annotations

import asyncio
import json as jsonlib
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
from rich import box
from rich.table import Table

from actors.config.loading import load
from actors.config.network import NetworkConfig
from actors.config.recipe import Recipe
from actors.engines.vllm import VllmEngine
from actors.models.tokenizer import load_tokenizer
from actors.observability import metrics
from actors.roles.generator import Session
from actors.roles.role import Presence, RoleContext, Storage
from actors.tasks.task import Task
from actors.tasks.templates import Renderer
from actors.transport.address import resolve
from benchmarks import models
from benchmarks.generation_replay import GenerationReplay
from benchmarks.terminal import console, say

RECIPES = Path(__file__).resolve().parent.parent / "recipes"
STARTUP_SECONDS = 600.0
ROUND_SECONDS = 600.0
#: How often it is looked whether all groups of a round are submitted (s).
WATCH_SECONDS = 0.005
TARGET = 0.95


@dataclass(frozen=True)
class Case:
    """A model with prompts of one length, and how much of it is a round."""

    model: str
    prompts: str
    prompt_tokens: int
    groups: int
    samples: int
    max_tokens: int

    def recipe(self) -> Recipe:
        """The recipe that goes with the model, for prompts and completions of this length."""
        name = {"tiny": "quickstart", "smollm2": "smollm2-arithmetic"}[self.model]
        settings = [
            "cold_start=null",
            "tasks.template=raw",
            "tasks.shots=[]",
            f"tasks.max_prompt_tokens={self.prompt_tokens}",
            f"generators.sampling.max_tokens={self.max_tokens}",
            f"generators.vllm.max_model_len={models.LONGEST}",
            f"replay.group_size={self.samples}",
        ]
        return load(RECIPES / f"{name}.yaml", settings)

    def texts(self, tokenizer: Any) -> list[str]:
        """Prompts of up to `prompt_tokens` tokens, which all begin differently."""
        found = []
        for number in range(self.groups):
            text = ids = ""
            while len(ids) <= self.prompt_tokens:
                text, before = f"{text}{number}+{len(text)}=", text
                ids = tokenizer.encode(text, add_special_tokens=True)
            found.append(before)
        return found


CASES = (
    Case("tiny", "short", 24, groups=128, samples=4, max_tokens=48),
    Case("tiny", "long", 512, groups=32, samples=4, max_tokens=48),
    Case("smollm2", "short", 24, groups=16, samples=8, max_tokens=32),
    Case("smollm2", "long", 512, groups=8, samples=8, max_tokens=32),
)


@dataclass(frozen=True)
class Round:
    """Cost of the tokens of one round: CPU time of engine and generator, and time on the clock (µs a token)."""

    tokens: int
    cpu: float
    wall: float


class Contest:
    """An engine, and both ways to it. `close` ends everything."""

    def __init__(self, case: Case, folder: Path) -> None:
        self._case, recipe = case, case.recipe()
        model = {"tiny": models.tiny, "smollm2": models.smollm2}[case.model]()
        tokenizer = load_tokenizer(model)
        self._texts = case.texts(tokenizer)
        renderer = Renderer(recipe.tasks, tokenizer)
        self._prompts = [renderer.render(Task(text, (("user", text),), "", {})) for text in self._texts]
        self._sampling = recipe.generators.sampling
        self._replay = GenerationReplay(self._texts, case.samples)
        context = RoleContext(recipe, "generator-1", Storage(folder, model), self._replay.address)
        self._session = Session(context, Presence(resolve(NetworkConfig(), in_cluster=False), ""))
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Bring the engine up. Raises TimeoutError, or what broke it."""
        self._running = asyncio.create_task(self._session.run())
        await self._until(lambda: self._session.working is not None, STARTUP_SECONDS)

    @property
    def _engine(self) -> VllmEngine:
        assert self._session.working is not None
        engine = self._session.working.engine
        assert isinstance(engine, VllmEngine)
        return engine

    async def _until(self, condition: Callable[[], bool], seconds: float) -> None:
        assert self._running is not None
        deadline = time.monotonic() + seconds
        while not condition():
            if self._running.done():
                self._running.result()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self._case} took longer than {seconds:g} s")
            await asyncio.sleep(WATCH_SECONDS)

    async def ours(self) -> int:
        """All prompts once, through the generator: each version admits a batch of them. Returns the tokens."""
        groups = self._session.working
        assert groups is not None
        wanted, before = groups.finished + self._case.groups, _generated_tokens()
        self._engine.version = 0 if self._engine.version is None else self._engine.version + 1
        self._session.tell_version()
        await self._until(lambda: groups.finished == wanted, ROUND_SECONDS)
        return _generated_tokens() - before

    async def bare(self) -> int:
        """All prompts once, through vLLM. Returns the tokens."""
        return sum(await asyncio.gather(*(self._generate(prompt, i) for i, prompt in enumerate(self._prompts))))

    async def _generate(self, prompt: list[int], number: int) -> int:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        params = SamplingParams(
            n=self._case.samples,
            temperature=self._sampling.temperature,
            top_p=self._sampling.top_p,
            max_tokens=self._case.max_tokens,
            logprobs=0,
            flat_logprobs=True,
            detokenize=False,
            stop_token_ids=self._engine._ends,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        outputs: Sequence[Any] = ()
        name = f"bare-{number}-{time.monotonic_ns()}"
        async for output in self._engine._engine.generate({"prompt_token_ids": prompt}, params, name):
            outputs = output.outputs
        return sum(len(output.token_ids) for output in outputs)

    async def measured(self, contender: Callable[[], Awaitable[int]]) -> Round:
        """One round of a contender."""
        cpu, wall = self._cpu_seconds(), time.monotonic()
        tokens = await contender()
        used, passed = self._cpu_seconds() - cpu, time.monotonic() - wall
        return Round(tokens, 1e6 * used / tokens, 1e6 * passed / tokens)

    def _cpu_seconds(self) -> float:
        """CPU time of this process and of the engine's."""
        own = psutil.Process()
        processes = [own, *(child for child in own.children(recursive=True) if child.pid != self._replay.pid)]
        return sum(sum(process.cpu_times()[:2]) for process in processes)

    async def close(self) -> None:
        self._session.stopping = True
        if self._running is not None:
            await asyncio.gather(self._running, return_exceptions=True)
        self._replay.close()


async def contest(case: Case, rounds: int, folder: Path) -> dict[str, list[Round]]:
    """So many rounds of each contender, in turn, after one of each that does not count."""
    found: dict[str, list[Round]] = {"bare": [], "ours": []}
    contest = Contest(case, folder)
    try:
        await contest.start()
        for number in range(rounds + 1):
            for name in ("bare", "ours") if number % 2 else ("ours", "bare"):
                measured = await contest.measured(getattr(contest, name))
                if number:
                    found[name].append(measured)
    finally:
        await contest.close()
    return found


def run(json: Path | None, only: str | None, rounds: int) -> bool:
    """Print what a token costs both contenders; whether ours kept to the target everywhere.

    Args:
        json: also write the figures here.
        only: name of a model; None for all.
        rounds: of each contender.
    """
    rows = []
    for case in CASES:
        if only in (None, case.model):
            say(f"{case.model}, {case.prompts} prompts: {case.groups} groups of {case.samples} a round")
            with tempfile.TemporaryDirectory() as folder:
                found = asyncio.run(contest(case, rounds, Path(folder)))
            rows.append({**asdict(case), **{name: [asdict(r) for r in some] for name, some in found.items()}})
            rows[-1] |= {"of_bare_cpu": ratio(found, "cpu"), "of_bare_wall": ratio(found, "wall")}
    console.print(table(rows))
    if json:
        json.write_text(jsonlib.dumps(rows, indent=2))
    return all(row["of_bare_cpu"] >= TARGET for row in rows)


def _generated_tokens() -> int:
    return int(sum(s.value for f in metrics.GENERATED_TOKENS.collect() for s in f.samples if s.name.endswith("_total")))


def ratio(found: dict[str, list[Round]], what: str) -> float:
    """Throughput of ours as a share of bare vLLM's, by the medians."""
    bare, ours = (statistics.median(asdict(r)[what] for r in found[name]) for name in ("bare", "ours"))
    return float(bare / ours)


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """A line a case: µs of CPU a token and tokens a second of both, and our share of bare vLLM's throughput."""
    made = Table(
        *("model", "prompts", "bare", "ours", "share", "bare", "ours", "share"),
        title=f"µs of CPU a token, and tokens/s on the clock; target {TARGET:.0%}",
        box=box.SIMPLE,
        padding=(0, 1),
    )
    for row in rows:
        cpu, wall = (
            {name: statistics.median(r[what] for r in row[name]) for name in ("bare", "ours")}
            for what in ("cpu", "wall")
        )
        made.add_row(
            *(row["model"], row["prompts"]),
            *(f"{cpu[name]:.0f}" for name in ("bare", "ours")),
            f"{row['of_bare_cpu']:.1%}",
            *(f"{1e6 / wall[name]:.0f}" for name in ("bare", "ours")),
            f"{row['of_bare_wall']:.1%}",
        )
    return made
