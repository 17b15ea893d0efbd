"""What a generator asks of its vLLM workers beyond vLLM's own calls: is an update here, and give it up.

vLLM mixes the class into its worker (`worker_extension_cls`), and `collective_rpc` calls its methods. None of them
raises what can be expected to happen: of several workers, vLLM would hand the answers that it then left unread to the
next call.
"""

from typing import Any

RECEIVED = "received"
RECEIVING = "receiving"


class WeightUpdateExtension:
    """The attributes are the worker's; `weight_transfer_engine` is that of `staged_engine`."""

    vllm_config: Any
    weight_transfer_engine: Any
    _weight_update_active: bool

    def weight_update_state(self) -> str:
        """RECEIVED, RECEIVING, or what broke the broadcast."""
        try:
            return RECEIVED if self.weight_transfer_engine.received() else RECEIVING
        except Exception as error:  # noqa: BLE001 - see above
            return f"{type(error).__name__}: {error}"

    def abort_weight_update(self) -> str:
        """End the open update, if there is one, as if it had never begun: vLLM has no call for that.

        Returns:
            Nothing, or why the weights are no longer those of one version.
        """
        from vllm.config import set_current_vllm_config

        try:
            with set_current_vllm_config(self.vllm_config):
                self.weight_transfer_engine.abort()
        except Exception as error:  # noqa: BLE001 - see above
            return f"{type(error).__name__}: {error}"
        self.weight_transfer_engine.reset_weight_update_target()
        self._weight_update_active = False
        return ""
