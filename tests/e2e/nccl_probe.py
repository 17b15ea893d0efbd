"""Runs inside vLLM's workers: an NCCL engine on the worker's real model, as far as it goes without NCCL."""

from typing import Any

from benchmarks.digest import Digest


class NcclProbe(Digest):
    """A worker extension; the attributes are the worker's."""

    device: Any

    def digests_after_an_abort(self) -> dict[str, str]:
        """The model's digests after an update that was started and given up before anything of it came."""
        from vllm.config import set_current_vllm_config

        engine = self._engine_of_its_own()
        with set_current_vllm_config(self.vllm_config):
            engine.start_weight_update()
            engine.abort()
        return self.parameter_digests()

    def refusal_to_abort(self) -> str:
        """What the engine says where weights were already written."""
        engine = self._engine_of_its_own()
        engine._written = True
        try:
            engine.abort()
        except RuntimeError as error:
            return str(error)
        return ""

    def _engine_of_its_own(self) -> Any:
        from actors.weights.nccl_engine import AbortableNcclEngine

        config = self.vllm_config
        return AbortableNcclEngine(config.weight_transfer_config, config, self.device, self.model_runner.get_model())
