"""The vLLM engine: continuous batching, exact version spans, weights taken in flight."""

import asyncio
import itertools
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from actors.config.roles import GeneratorsConfig, SamplingConfig
from actors.engines.protocol import SampledCompletion
from actors.engines.tokens import end_tokens
from actors.observability import metrics


def set_environment(config: GeneratorsConfig) -> None:
    """What vLLM reads before it is imported. On CPUs the worker lives in the engine's process: it saves a process
    that imports vLLM, and the copies between the two."""
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ["OMP_NUM_THREADS"] = str(config.threads)
    if config.gpus == 0:
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
        os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(config.vllm.kv_cache_gib)
        if config.vllm.tensor_parallel_size == 1:
            os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"


class VllmEngine:
    """One `AsyncLLM`. `workers` is its number of tensor-parallel workers, each a rank of the broadcast group."""

    def __init__(self, config: GeneratorsConfig, model: Path, tokenizer: Any, backend: str, seed: int) -> None:
        self._config, self._model, self._tokenizer = config, model, tokenizer
        self._backend, self._seed = backend, seed
        self._numbers = itertools.count()
        self._paused_since: float | None = None
        self._ends = end_tokens(model, tokenizer)
        self.workers = config.vllm.tensor_parallel_size
        self.version: int | None = None

    async def start(self) -> None:
        """Bring the engine up and take one step, so that one-time compilation is over before real work."""
        set_environment(self._config)
        from vllm.config.weight_transfer import WeightTransferConfig
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        v = self._config.vllm
        cpu = self._config.gpus == 0
        options: dict[str, Any] = {
            "model": str(self._model),
            "dtype": self._config.dtype,
            "seed": self._seed,
            "max_model_len": v.max_model_len,
            "max_num_seqs": v.max_num_seqs,
            "enforce_eager": v.enforce_eager,
            "tensor_parallel_size": v.tensor_parallel_size,
            "enable_prefix_caching": v.prefix_cache != "off",
            "logprobs_mode": "processed_logprobs",
            "skip_tokenizer_init": True,
            "generation_config": "vllm",  # not what the model folder says of sampling
            "disable_log_stats": True,
            "weight_transfer_config": WeightTransferConfig(backend=self._backend),
        }
        if cpu:
            options["distributed_executor_backend"] = "uni" if v.tensor_parallel_size == 1 else "mp"
        else:
            options["gpu_memory_utilization"] = v.gpu_memory_utilization
        self._engine = AsyncLLM.from_engine_args(AsyncEngineArgs(**(options | v.engine_args)))
        await self._engine.update_weight_version("0")
        await self.generate([1, 2, 3], 2, SamplingConfig(max_tokens=4))

    async def generate(self, prompt: list[int], samples: int, sampling: SamplingConfig) -> list[SampledCompletion]:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        params = SamplingParams(
            n=samples,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_tokens,
            logprobs=0,
            flat_logprobs=True,
            detokenize=False,
            stop_token_ids=self._ends,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        final = None
        async for output in self._engine.generate({"prompt_token_ids": prompt}, params, f"g{next(self._numbers)}"):
            final = output
        assert final is not None, "vLLM ended a request without an output"
        completions = sorted(final.outputs, key=lambda c: c.index)
        return [self._sampled(completion) for completion in completions]

    def _sampled(self, completion: Any) -> SampledCompletion:
        tokens = np.asarray(completion.token_ids, np.int32)
        # With logprobs=0 the flat list holds exactly the sampled token of each position.
        logprobs = np.asarray(completion.logprobs.logprobs, np.float32)
        if len(logprobs) != len(tokens):
            raise RuntimeError(f"vLLM returned {len(logprobs)} logprobs for {len(tokens)} tokens")
        spans = tuple((int(span.version), span.end - span.start) for span in completion.weight_versions)
        text = self._tokenizer.decode(tokens, skip_special_tokens=True)
        return SampledCompletion(tokens, np.minimum(logprobs, 0.0), spans, completion.finish_reason == "length", text)

    # ---------------------------------------------------------------- weights

    async def open_group(self, info: dict[str, Any]) -> None:
        from vllm.distributed.weight_transfer.base import WeightTransferInitRequest

        await self._engine.init_weight_transfer_engine(WeightTransferInitRequest(init_info=info))

    async def start_update(self) -> None:
        # Our Gloo engine receives beside generation; vLLM's own engines write into the live parameters.
        if self._backend != "gloo":
            await self._pause()
        await self._engine.start_weight_update()

    async def receive_update(self, info: dict[str, Any]) -> None:
        from vllm.distributed.weight_transfer.base import WeightTransferUpdateRequest

        await self._engine.update_weights(WeightTransferUpdateRequest(update_info=info))

    async def finish_update(self, version: int) -> float:
        if self._paused_since is None:
            await self._pause()
        try:
            await self._engine.finish_weight_update(weight_version=str(version))
            self.version = version
        finally:
            pause = await self._resume()
        return pause

    async def _pause(self) -> None:
        self._paused_since = time.monotonic()
        clear = self._config.vllm.prefix_cache == "per_version"
        await self._engine.pause_generation(mode="keep", clear_cache=clear)

    async def _resume(self) -> float:
        await self._engine.resume_generation()
        assert self._paused_since is not None
        pause, self._paused_since = time.monotonic() - self._paused_since, None
        metrics.SYNC_PAUSE.observe(pause)
        return pause

    async def close(self) -> None:
        await asyncio.to_thread(self._engine.shutdown)
