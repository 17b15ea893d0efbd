"""Which experts each token went to, from a vLLM engine on CPUs.

vLLM 0.32 returns routed experts where its second model runner runs, which needs Triton: on GPUs, and not on CPUs. What
it does there it does here too, by its own parts: CPUs route by a router that can be listened to, a connector keeps what
was heard (by blocks of the prefix cache, and past a preemption), and requests get it with their tokens. What is left to
do is to call them where the second runner does: a scheduler that has its end of the connector, and a worker whose first
runner begins and ends the connector's steps.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from vllm.distributed.aux_output_connector.connector import AuxOutputSchedulerConnector
from vllm.distributed.aux_output_connector.worker import AuxOutputWorkerConnector, get_aux_output_connector
from vllm.v1.core.sched.scheduler import Scheduler

from actors.weights.worker_extension import WeightUpdateExtension


class RoutedExpertsScheduler(Scheduler):
    """vLLM's, which hands out routed experts."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.aux_output_connector = AuxOutputSchedulerConnector()


class RoutedExpertsExtension(WeightUpdateExtension):
    """Ours, whose runner reports routed experts once `return_routed_experts` was called."""

    model_runner: Any

    def return_routed_experts(self) -> None:
        """Has to be called before the first request: vLLM's scheduler expects something of every step."""
        runner = self.model_runner
        connector = get_aux_output_connector(runner.model, runner.vllm_config, runner.kv_cache_config)
        _Reporting(runner, connector)


@dataclass(frozen=True, slots=True)
class _Step:
    """What the connector reads of a batch, in the order in which its rows went through the model.

    Attributes:
        req_ids: the requests.
        query_start_loc_np: int [R + 1], where the rows of each begin, and their number.
        num_computed_tokens_np: int [R], tokens of each that were there before.
    """

    req_ids: list[str]
    query_start_loc_np: npt.NDArray[np.int64]
    num_computed_tokens_np: npt.NDArray[np.int32]


class _Reporting:
    """Puts the connector around the two calls that a step of the runner is made of."""

    def __init__(self, runner: Any, connector: AuxOutputWorkerConnector) -> None:
        self._runner, self._connector = runner, connector
        self._scheduled: Any = None
        self._execute, self._sample = runner.execute_model, runner.sample_tokens
        runner.execute_model = self.execute_model
        runner.sample_tokens = self.sample_tokens

    def execute_model(self, scheduled: Any, *arguments: Any, **options: Any) -> Any:
        self._scheduled = scheduled
        self._connector.begin_step(scheduled.aux_output_connector_metadata)
        return self._execute(scheduled, *arguments, **options)

    def sample_tokens(self, *arguments: Any, **options: Any) -> Any:
        output = self._sample(*arguments, **options)
        if output is not None and output.req_ids:
            self._report(output)
        return output

    def _report(self, output: Any) -> None:
        requests, rows = list(output.req_ids), self._scheduled.num_scheduled_tokens
        drafts = self._scheduled.scheduled_spec_decode_tokens
        computed = self._runner.input_batch.num_computed_tokens_cpu[: len(requests)].copy()
        step = _Step(requests, np.cumsum([0, *(rows[name] for name in requests)]), computed)
        # vLLM's annotation is that of the second runner's batch, of which it reads these three.
        pending = self._connector.prepare_output(step)  # type: ignore[arg-type]
        if pending is None:  # of several workers one reports
            return
        sampled = np.array([len(tokens) for tokens in output.sampled_token_ids])
        drafted = np.array([len(drafts.get(name, ())) for name in requests])
        # Of a part of a prompt nothing is sampled; else one token more than drafts were accepted.
        pending.enqueue_cpu_copy(sampled, np.where(sampled > 0, drafted - (sampled - 1), 0).clip(0))
        output.aux_output_connector_output = pending.process_output()
