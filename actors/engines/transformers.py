"""Generation with `transformers`, for machines without vLLM and for the learner's own cold-start checks."""

import asyncio
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import GenerationConfig, LogitsProcessorList

from actors.config.roles import GeneratorsConfig, SamplingConfig
from actors.engines.protocol import Job, SampledCompletion, require_fit
from actors.engines.sampler import RowSampler
from actors.engines.tokens import end_tokens
from actors.errors import EngineError
from actors.observability import metrics
from actors.replay.progress import End, Partial
from actors.weights.receiver import StagedReceiver
from learner.model.loading import LOADING
from learner.model.merging import merged_weights
from learner.model.names import conversions, model_tensors

#: Prompts with a seed are padded to a multiple of so many tokens, and their batch to so many rows at least. What a
#: model computes of a row depends on how wide its batch is, and, in MKL, on whether it has fewer than a dozen rows.
WIDTH, MIN_ROWS = 32, 16
#: How often it is looked whether the batch under way has come to its next token (s).
PING_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class BatchRow:
    """One completion of a batch: the prompt, with what the completion has already; and how many tokens it may get."""

    prompt: Sequence[int]
    most: int
    seed: int
    skipped: int = 0


class Batch:
    """Completions that are generated together. `part` may be asked meanwhile, from another thread.

    Args:
        rows: one a completion.
        sampling: how tokens are sampled.
        ends: token ids that end a completion.
        version: policy version that the model holds.
        width: that prompts are padded to (tokens), where they are not longer.
    """

    def __init__(
        self, rows: Sequence[BatchRow], sampling: SamplingConfig, ends: Sequence[int], version: int, width: int = 0
    ) -> None:
        self.rows, self.ends, self._version = rows, list(ends), version
        self.width = max(width, *(len(row.prompt) for row in rows))
        self.sampler = RowSampler(sampling, [row.seed for row in rows], [row.skipped for row in rows])

    def parts(self, first: int, count: int) -> list[Partial]:
        """What there is of some rows."""
        tokens, logprobs = self.sampler.sampled()
        return [self._part(i, tokens[i], logprobs[i]) for i in range(first, first + count)]

    def _part(self, row: int, tokens: npt.NDArray[np.int32], logprobs: npt.NDArray[np.float32]) -> Partial:
        most = min(len(tokens), self.rows[row].most)
        ended = np.isin(tokens[:most], self.ends)
        length = int(ended.argmax()) + 1 if ended.any() else most
        end = End.STOPPED if ended.any() else End.TRUNCATED if length == self.rows[row].most else End.RUNNING
        spans = ((self._version, length),) if length else ()
        return Partial(tokens[:length], logprobs[:length], spans, end)


@torch.no_grad()
def run_batch(model: Any, batch: Batch, pad: int) -> None:
    """Generate a batch, left-padded with `pad`.

    Raises:
        GenerationStoppedError: it was given up.
    """
    width = batch.width
    ids = torch.tensor([[pad] * (width - len(row.prompt)) + list(row.prompt) for row in batch.rows])
    mask = torch.tensor([[0] * (width - len(row.prompt)) + [1] * len(row.prompt) for row in batch.rows])
    with _recipe_alone(model):
        model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            do_sample=False,  # the sampler does
            max_new_tokens=max(row.most for row in batch.rows),
            eos_token_id=batch.ends,
            pad_token_id=pad,
            logits_processor=LogitsProcessorList([batch.sampler]),
        )


def generate(
    model: Any, tokenizer: Any, prompts: Sequence[list[int]], sampling: SamplingConfig, ends: list[int], version: int
) -> list[SampledCompletion]:
    """One completion of each prompt, from torch's random state.

    Args:
        model: a causal language model, on any device.
        tokenizer: its tokenizer.
        prompts: token ids of each prompt; they need not have the same length.
        sampling: how completions are sampled.
        ends: token ids that end a completion.
        version: policy version that the model holds, for the completions' spans.
    """
    seeds = torch.randint(2**62, (len(prompts),)).tolist()
    rows = [BatchRow(prompt, sampling.max_tokens, seed) for prompt, seed in zip(prompts, seeds, strict=True)]
    batch = Batch(rows, sampling, ends, version)
    run_batch(model, batch, padding(tokenizer, ends))
    return [SampledCompletion.of(part, tokenizer) for part in batch.parts(0, len(rows))]


def padding(tokenizer: Any, ends: Sequence[int]) -> int:
    """A token id that stands where there is no token."""
    return int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else ends[0])


@contextmanager
def _recipe_alone(model: Any) -> Iterator[None]:
    """Inside, nothing of the model folder's generation_config.json counts: `generate` takes from there whatever its
    caller leaves open, such as penalties, forbidden tokens or top_k."""
    own, model.generation_config = model.generation_config, GenerationConfig()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        model.generation_config = own


@dataclass(frozen=True, slots=True)
class Queued:
    """A group that waits for its batch, or for the end of it; completions `left` are not complete yet."""

    prompt: list[int]
    left: Sequence[int]
    sampling: SamplingConfig
    job: Job
    done: "asyncio.Future[None]"

    @property
    def width(self) -> int:
        """Width that its prompts are padded to, which follows from the group alone; 0 without a seed: it may be any."""
        longest = len(self.prompt) + max(len(self.job.begun[i]) for i in self.left)
        return 0 if self.job.seed is None else (longest // WIDTH + 1) * WIDTH  # always padded, never without a mask

    @property
    def kind(self) -> tuple[SamplingConfig, int]:
        """Whoever has the same may be in one batch."""
        return self.sampling, self.width

    def rows(self, seeds: random.Random) -> list[BatchRow]:
        """What is left of each completion; those without a seed get one of `seeds`."""
        begun, seed = self.job.begun, self.job.seed
        return [
            BatchRow(
                [*self.prompt, *begun[i].tokens.tolist()],
                self.sampling.max_tokens - len(begun[i]),
                seeds.getrandbits(62) if seed is None else seed + i,
                len(begun[i]),
            )
            for i in self.left
        ]

    def follow(self, batch: Batch, first: int) -> None:
        """Let the job see its rows in a batch, which begin at `first`."""

        def fresh() -> dict[int, Partial]:
            return dict(zip(self.left, batch.parts(first, len(self.left)), strict=True))

        self.job.follow(fresh, lambda: {i: len(part) for i, part in fresh().items()})


def _swap_in(parameter: torch.Tensor, tensor: torch.Tensor) -> None:
    """Put a received tensor in the place of a parameter's, without a copy where it is on the same device."""
    if parameter.shape != tensor.shape:
        raise ValueError(f"expected {tuple(parameter.shape)}, got {tuple(tensor.shape)}")
    parameter.data = tensor.to(parameter.device, parameter.dtype)


class TransformersEngine(StagedReceiver):
    """Answers all waiting requests of a kind in one batch, then the next. Weights are swapped between two batches."""

    def __init__(self, config: GeneratorsConfig, model: Path, tokenizer: Any, seed: int) -> None:
        super().__init__()
        self._config, self._path, self._tokenizer = config, model, tokenizer
        self._ends = end_tokens(model, tokenizer)
        self._seed, self._seeds = seed, random.Random(seed)
        self._pad = padding(tokenizer, self._ends)
        self._waiting: list[Queued] = []
        self._batch: Batch | None = None
        self._wake = asyncio.Event()
        self._swap = asyncio.Lock()
        self.version: int | None = None
        self._held: list[tuple[str, torch.Tensor]] = []

    async def start(self) -> None:
        from transformers import AutoModelForCausalLM

        torch.manual_seed(self._seed)
        torch.set_num_threads(self._config.threads)
        dtype = getattr(torch, self._config.dtype)
        with LOADING:
            model: Any = AutoModelForCausalLM.from_pretrained(self._path, dtype=dtype, trust_remote_code=False)
        self._model = model.eval()
        if self._config.gpus:
            self._model.to("cuda")
        self._loop = asyncio.create_task(self._serve())

    async def generate(
        self, prompt: list[int], samples: int, sampling: SamplingConfig, job: Job | None = None
    ) -> list[SampledCompletion]:
        require_fit(prompt, self._context(), self._model.get_input_embeddings().num_embeddings)
        job = job or Job(samples)
        job.end_what_is_full(len(prompt), sampling, self._context())
        if left := [i for i, part in enumerate(job.begun) if part.end is End.RUNNING]:
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(Queued(prompt, left, sampling, job, done))
            self._wake.set()
            await done
        return [SampledCompletion.of(part, self._tokenizer) for part in job.so_far()]

    def _context(self) -> int | None:
        """Positions that the model has learned one by one; rotary ones reach further."""
        config = self._model.config.get_text_config().to_dict()
        rotary = config.get("rope_parameters") or config.get("rope_scaling") or config.get("rope_theta")
        return None if rotary else config.get("max_position_embeddings")

    async def ping(self) -> None:
        """The event loop answers whatever the thread does that samples; so that one is asked for its next token."""
        batch = self._batch
        steps = 0 if batch is None else batch.sampler.steps
        while not self._loop.done():
            if batch is None or self._batch is not batch or batch.sampler.steps > steps:
                return
            await asyncio.sleep(PING_SECONDS)
        self._loop.result()

    async def _serve(self) -> None:
        while True:
            await self._wake.wait()
            kind = self._waiting[0].kind
            together = [w for w in self._waiting if w.kind == kind]
            self._waiting = [w for w in self._waiting if w.kind != kind]
            if not self._waiting:
                self._wake.clear()
            try:
                async with self._swap:
                    await asyncio.to_thread(run_batch, self._model, self._batch_of(together), self._pad)
                    self._batch = None
            except Exception as error:  # noqa: BLE001 - it belongs to those who wait, and they would wait for ever
                self._batch = None
                for waiting in together:
                    if not waiting.done.done():
                        waiting.done.set_exception(error)
                continue
            for waiting in together:
                if not waiting.done.done():
                    waiting.done.set_result(None)

    def _batch_of(self, together: Sequence["Queued"]) -> Batch:
        """One batch of all rows of those who wait, each of whom can see how far it is."""
        rows = [row for waiting in together for row in waiting.rows(self._seeds)]
        sampling, width = together[0].kind
        if width:
            rows += rows[:1] * (MIN_ROWS - len(rows))
        batch = self._batch = Batch(rows, sampling, self._ends, self.version or 0, width)
        first = 0
        for waiting in together:
            waiting.follow(batch, first)
            first += len(waiting.left)
        return batch

    # ---------------------------------------------------------------- weights

    async def finish_update(self, version: int) -> float:
        tensors, merging = self.take(), self.merging
        weights = tensors if merging is None else merged_weights(self._path, tensors, merging, self._model.device)
        await self._swap.acquire()  # and kept where the swap fails: nothing is sampled from half of two versions
        start = time.monotonic()
        try:
            self._load(weights)
        except Exception as error:
            raise EngineError(f"version {version} was not swapped in, or half of it: {error}") from error
        self.version = version
        self.staging.give_back(self._held)  # what was swapped out; the model now stands in what came
        self._held = tensors
        self._swap.release()
        pause = time.monotonic() - start
        metrics.SYNC_PAUSE.observe(pause)
        return pause

    @torch.no_grad()
    def _load(self, weights: Iterable[tuple[str, torch.Tensor]]) -> None:
        missing = dict(self._model.named_parameters())
        if conversions(self._model):
            with LOADING:
                weights = model_tensors(self._model, weights).items()
        for name, tensor in weights:
            # A model folder may hold more than parameters: buffers, and the second name of a tied weight.
            if name in missing:
                _swap_in(missing.pop(name), tensor)
        if missing:
            raise RuntimeError(f"the learner's parameters do not fit: {sorted(missing)} are missing")

    async def close(self) -> None:
        """End the batch under way at its next token; the process would wait for its thread."""
        self._loop.cancel()
        if self._batch is not None:
            self._batch.sampler.stopped = True
