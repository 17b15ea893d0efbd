"""The vLLM engine: continuous batching, exact version spans, weights taken in flight."""

import asyncio
import itertools
import os
import time
from collections.abc import Awaitable
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from actors.config.roles import GeneratorsConfig, SamplingConfig
from actors.engines.library import require_library
from actors.engines.protocol import Job, RequestRejectedError, SampledCompletion, all_or_none, found_in, require_fit
from actors.engines.tokens import end_tokens
from actors.engines.vllm_requests import CompletionRequest, requests_of
from actors.errors import EngineError, RecipeError
from actors.observability import metrics
from actors.weights import plugin
from actors.weights.background import in_background
from actors.weights.worker_extension import RECEIVED, RECEIVING

#: First and longest time between two questions whether the weights are here (s): each is a step of the engine's loop.
FIRST_POLL_SECONDS, LAST_POLL_SECONDS = 0.002, 0.1
#: Key-value cache on CPUs, in blocks of so many tokens: the least that its kernels take. Only whole blocks of a prompt
#: are shared, and vLLM's 128 are more than most prompts have. Models whose kernels want others get those from vLLM.
CPU_BLOCK_TOKENS = 32
#: What makes vLLM say which experts tokens went to, on GPUs and on CPUs.
ROUTED_EXPERTS = {"enable_return_routed_experts": True}
ROUTED_EXPERTS_ON_CPU = {
    "scheduler_cls": "actors.engines.vllm_routed_experts.RoutedExpertsScheduler",
    "worker_extension_cls": "actors.engines.vllm_routed_experts.RoutedExpertsExtension",
}
#: Longest wait for an engine to go down (s).
CLOSE_SECONDS = 30.0


def set_environment(config: GeneratorsConfig) -> None:
    """What vLLM and torch read before they are imported. On CPUs the worker lives in the engine's process: it saves a
    process that imports vLLM, and the copies between the two; and without graphs nothing is compiled, not even the
    comparison that vLLM counts ranks by, which takes a C++ compiler and seconds of every start."""
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ["OMP_NUM_THREADS"] = str(config.threads)
    if config.gpus == 0:
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
        os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(config.vllm.kv_cache_gib)
        if config.vllm.enforce_eager:
            os.environ["TORCH_COMPILE_DISABLE"] = "1"
        if config.vllm.tensor_parallel_size == 1:
            os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"


def _require_extension(name: str, ours: str) -> None:
    """Raises RecipeError where what the recipe mixes into vLLM's workers cannot do what ours can."""
    if not issubclass(resolve_name(name), resolve_name(ours)):
        raise RecipeError(f"generators.vllm.engine_args.worker_extension_cls: {name} must be a subclass of {ours}")


class VllmEngine:
    """One `AsyncLLM`. `workers` is its number of tensor-parallel workers, each a rank of the broadcast group.

    With `routed_experts` its completions say which experts their tokens went to.
    """

    def __init__(
        self, config: GeneratorsConfig, model: Path, tokenizer: Any, seed: int, routed_experts: bool = False
    ) -> None:
        self._config, self._model, self._tokenizer = config, model, tokenizer
        self._seed, self._routed_experts = seed, routed_experts
        self._numbers = itertools.count()
        self._swapping: asyncio.Task[float] | None = None
        self._ends = end_tokens(model, tokenizer)
        self.workers = config.vllm.tensor_parallel_size
        self.version: int | None = None

    async def start(self) -> None:
        """Bring the engine up and take one step, so that one-time compilation is over before real work."""
        set_environment(self._config)
        if self._config.gpus == 0:
            require_library()
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
            "disable_log_stats": False,  # vLLM's own metrics, which /metrics shows beside ours
            "served_model_name": self._model.name,  # as their label; else it is the whole path
            "weight_transfer_config": WeightTransferConfig(backend=plugin.ENGINE[0]),
            "worker_extension_cls": plugin.WORKER_EXTENSION,
        }
        if cpu:
            options["distributed_executor_backend"] = "uni" if v.tensor_parallel_size == 1 else "mp"
            options["block_size"] = CPU_BLOCK_TOKENS
            if self._config.seeded:
                # Where a prompt with a seed is computed in parts, vLLM 0.32 rewinds the request's generator, which a
                # CPU's cannot be: the engine would die of it.
                options["enable_chunked_prefill"] = False
        else:
            options["gpu_memory_utilization"] = v.gpu_memory_utilization
        if self._routed_experts:
            options |= ROUTED_EXPERTS_ON_CPU if cpu else ROUTED_EXPERTS
        ours = options["worker_extension_cls"]
        _require_extension(v.engine_args.get("worker_extension_cls", ours), ours)
        self._engine = AsyncLLM.from_engine_args(AsyncEngineArgs(**(options | v.engine_args)))
        if self._routed_experts and cpu:
            await self._workers("return_routed_experts")
        await self._engine.update_weight_version("0")
        sampled = await self.generate([1, 2, 3], 2, SamplingConfig(max_tokens=4))
        if self._routed_experts and any(s.routed_experts is None for s in sampled):
            raise EngineError("vLLM does not say which experts tokens went to; set learner.router_replay: false")

    async def generate(
        self, prompt: list[int], samples: int, sampling: SamplingConfig, job: Job | None = None
    ) -> list[SampledCompletion]:
        model = self._engine.model_config
        require_fit(prompt, model.max_model_len, model.get_vocab_size())
        job = job or Job(samples)
        job.end_what_is_full(len(prompt), sampling, model.max_model_len)
        requests = requests_of(job, f"g{next(self._numbers)}")
        job.follow(
            lambda: found_in(request.so_far(self._engine.output_processor) for request in requests),
            lambda: found_in(request.lengths(self._engine.output_processor) for request in requests),
        )
        await all_or_none(self._finish(request, prompt, sampling) for request in requests)
        return [SampledCompletion.of(part, self._tokenizer) for part in job.so_far()]

    async def _finish(self, request: CompletionRequest, prompt: list[int], sampling: SamplingConfig) -> None:
        """Carry a request out; its completions are then in `done`."""
        from vllm import SamplingParams
        from vllm.exceptions import VLLMClientError
        from vllm.sampling_params import RequestOutputKind

        params = SamplingParams(
            n=len(request.indexes),
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_tokens - len(request.prefix),
            seed=request.seed,
            logprobs=0,
            flat_logprobs=True,
            detokenize=False,
            stop_token_ids=self._ends,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        tokens, final = prompt + request.prefix, None
        try:
            async for output in self._engine.generate({"prompt_token_ids": tokens}, params, request.name):
                final = output
        except VLLMClientError as error:
            raise RequestRejectedError("malformed", f"vLLM: {error}") from error
        assert final is not None, "vLLM ended a request without an output"
        request.end(final.outputs)

    async def ping(self) -> None:
        await self._engine.is_sleeping()  # answered by the core's own loop, between two steps

    # ---------------------------------------------------------------- weights

    async def open_group(self, info: dict[str, Any]) -> None:
        from vllm.distributed.weight_transfer.base import WeightTransferInitRequest

        await self._asked("join", self._engine.init_weight_transfer_engine(WeightTransferInitRequest(init_info=info)))

    async def start_update(self) -> None:
        await self._asked("start", self._engine.start_weight_update())

    async def receive_update(self, info: dict[str, Any]) -> None:
        from vllm.distributed.weight_transfer.base import WeightTransferUpdateRequest

        await self._asked("receive", self._engine.update_weights(WeightTransferUpdateRequest(update_info=info)))

    async def received(self) -> None:
        """Wait until every worker has everything; generation goes on.

        Raises:
            RuntimeError: what broke the broadcast.
        """
        wait = FIRST_POLL_SECONDS
        while (states := set(await self._workers("weight_update_state"))) != {RECEIVED}:
            if broken := states - {RECEIVED, RECEIVING}:
                raise RuntimeError("; ".join(sorted(broken)))
            await asyncio.sleep(wait)
            wait = min(2 * wait, LAST_POLL_SECONDS)

    async def finish_update(self, version: int) -> float:
        # A worker that swaps cannot be stopped: who gives up meanwhile waits for its end, in `abort_update`.
        self._swapping = asyncio.create_task(self._swap(version))
        return await asyncio.shield(self._swapping)

    async def _swap(self, version: int) -> float:
        """Generation stays paused where it fails: nothing is sampled from half of two versions.

        Raises:
            EngineError: it has failed.
        """
        began = time.monotonic()
        await self._engine.pause_generation(mode="keep", clear_cache=self._config.vllm.prefix_cache == "per_version")
        try:
            await self._engine.finish_weight_update(weight_version=str(version))
        except Exception as error:
            raise EngineError(f"version {version} was not swapped in, or half of it: {error}") from error
        self.version = version
        await self._engine.resume_generation()
        pause = time.monotonic() - began
        metrics.SYNC_PAUSE.observe(pause)
        return pause

    async def abort_update(self) -> None:
        """End whatever is open, a swap excepted that has begun, and generate on.

        Raises:
            EngineError: a worker could not, or the swap has failed.
        """
        if self._swapping is not None:
            await asyncio.shield(self._swapping)
        if broken := [state for state in await self._workers("abort_weight_update") if state]:
            raise EngineError(f"an update could not be given up: {broken[0]}")

    async def _asked(self, what: str, call: Awaitable[None]) -> None:
        """A call of vLLM's that may fail; of several workers, vLLM would then take one's answer for another call's."""
        try:
            await call
        except Exception as error:
            if self.workers == 1:
                raise
            raise EngineError(f"one of {self.workers} workers could not {what}: {error}") from error

    async def _workers(self, method: str) -> list[Any]:
        """What each worker's `WeightUpdateExtension` answers."""
        answers: list[Any] = await self._engine.collective_rpc(method)
        return answers

    async def close(self) -> None:
        """Take the engine down; one that is stuck is left to the end of the process.

        Whatever holds on to this object, the engine is gone: one that lives until the interpreter ends would go down
        once more then, without the modules that it needs.
        """
        down = in_background(self._engine.shutdown, "engine-shutdown")
        del self._engine
        ended, _ = await asyncio.wait({asyncio.wrap_future(down)}, timeout=CLOSE_SECONDS)
        for task in ended:
            task.result()
