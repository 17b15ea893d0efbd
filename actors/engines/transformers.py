"""Generation with `transformers`, for machines without vLLM and for the learner's own cold-start checks."""

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig

from actors.config.roles import GeneratorsConfig, SamplingConfig
from actors.engines.protocol import SampledCompletion, require_fit
from actors.engines.tokens import end_tokens
from actors.errors import EngineError
from actors.observability import metrics
from actors.weights.receiver import GlooReceiver
from learner.model.merging import merged_weights


@torch.no_grad()
def generate(
    model: Any, tokenizer: Any, prompts: Sequence[list[int]], sampling: SamplingConfig, ends: list[int], version: int
) -> list[SampledCompletion]:
    """One completion of each prompt, in one left-padded batch.

    Args:
        model: a causal language model, on any device.
        tokenizer: its tokenizer.
        prompts: token ids of each prompt; they need not have the same length.
        sampling: how tokens are sampled.
        ends: token ids that end a completion.
        version: policy version that the model holds, for the completions' spans.
    """
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else ends[0]
    width = max(map(len, prompts))
    ids = torch.tensor([[pad] * (width - len(p)) + list(p) for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    with _recipe_alone(model):
        output = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            do_sample=True,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=0,
            max_new_tokens=sampling.max_tokens,
            eos_token_id=ends,
            pad_token_id=pad,
            return_dict_in_generate=True,
            output_scores=True,
        )
    sampled = output.sequences[:, width:]
    logprobs = [s.float().log_softmax(-1).gather(1, sampled[:, i : i + 1]) for i, s in enumerate(output.scores)]
    scores = torch.cat(logprobs, 1).cpu().numpy()
    return [_cut(tokenizer, row, score, ends, version) for row, score in zip(sampled.tolist(), scores, strict=True)]


@contextmanager
def _recipe_alone(model: Any) -> Iterator[None]:
    """Inside, nothing of the model folder's generation_config.json counts: `generate` takes from there whatever its
    caller leaves open, such as penalties, forbidden tokens or top_k."""
    own, model.generation_config = model.generation_config, GenerationConfig()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        model.generation_config = own


def _cut(tokenizer: Any, row: list[int], scores: Any, ends: list[int], version: int) -> SampledCompletion:
    length = next((i + 1 for i, token in enumerate(row) if token in ends), len(row))
    truncated = row[length - 1] not in ends
    tokens = np.asarray(row[:length], np.int32)
    text = tokenizer.decode(tokens, skip_special_tokens=True)
    return SampledCompletion(tokens, scores[:length].astype(np.float32), ((version, length),), truncated, text)


def _swap_in(parameter: torch.Tensor, tensor: torch.Tensor) -> None:
    """Put a received tensor in the place of a parameter's, without a copy where it is on the same device."""
    if parameter.shape != tensor.shape:
        raise ValueError(f"expected {tuple(parameter.shape)}, got {tuple(tensor.shape)}")
    parameter.data = tensor.to(parameter.device, parameter.dtype)


class TransformersEngine(GlooReceiver):
    """Answers all waiting requests in one batch, then the next. Weights are swapped between two batches."""

    def __init__(self, config: GeneratorsConfig, model: Path, tokenizer: Any, seed: int) -> None:
        super().__init__()
        self._config, self._path, self._tokenizer = config, model, tokenizer
        self._ends = end_tokens(model, tokenizer)
        self._seed = seed
        self._waiting: list[tuple[list[int], int, SamplingConfig, asyncio.Future[list[SampledCompletion]]]] = []
        self._wake = asyncio.Event()
        self._swap = asyncio.Lock()
        self.version: int | None = None

    async def start(self) -> None:
        from transformers import AutoModelForCausalLM

        torch.manual_seed(self._seed)
        torch.set_num_threads(self._config.threads)
        dtype = getattr(torch, self._config.dtype)
        model: Any = AutoModelForCausalLM.from_pretrained(self._path, dtype=dtype, trust_remote_code=False)
        self._model = model.eval()
        if self._config.gpus:
            self._model.to("cuda")
        self._loop = asyncio.create_task(self._serve())

    async def generate(self, prompt: list[int], samples: int, sampling: SamplingConfig) -> list[SampledCompletion]:
        require_fit(prompt, self._context(), self._model.get_input_embeddings().num_embeddings)
        future: asyncio.Future[list[SampledCompletion]] = asyncio.get_running_loop().create_future()
        self._waiting.append((prompt, samples, sampling, future))
        self._wake.set()
        return await future

    def _context(self) -> int | None:
        """Positions that the model has learned one by one; rotary ones reach further."""
        config = self._model.config.get_text_config().to_dict()
        rotary = config.get("rope_parameters") or config.get("rope_scaling") or config.get("rope_theta")
        return None if rotary else config.get("max_position_embeddings")

    async def ping(self) -> None:
        if self._loop.done():
            self._loop.result()

    async def _serve(self) -> None:
        while True:
            await self._wake.wait()
            sampling = self._waiting[0][2]
            batch = [w for w in self._waiting if w[2] == sampling]
            self._waiting = [w for w in self._waiting if w[2] != sampling]
            if not self._waiting:
                self._wake.clear()
            prompts = [prompt for prompt, samples, _, _ in batch for _ in range(samples)]
            try:
                async with self._swap:
                    sampled = await asyncio.to_thread(
                        generate, self._model, self._tokenizer, prompts, sampling, self._ends, self.version or 0
                    )
            except Exception as error:  # noqa: BLE001 - it belongs to those who wait, and they would wait for ever
                for *_, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            rest = iter(sampled)
            for _, samples, _, future in batch:
                own = [next(rest) for _ in range(samples)]
                if not future.done():
                    future.set_result(own)

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
        self._swap.release()
        pause = time.monotonic() - start
        metrics.SYNC_PAUSE.observe(pause)
        return pause

    @torch.no_grad()
    def _load(self, weights: Iterable[tuple[str, torch.Tensor]]) -> None:
        missing = dict(self._model.named_parameters())
        for name, tensor in weights:
            # A model folder may hold more than parameters: buffers, and the second name of a tied weight.
            if name in missing:
                _swap_in(missing.pop(name), tensor)
        if missing:
            raise RuntimeError(f"the learner's parameters do not fit: {sorted(missing)} are missing")

    async def close(self) -> None:
        self._loop.cancel()
