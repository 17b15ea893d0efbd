"""What vLLM loads in each of its processes (entry point `vllm.general_plugins`)."""


def register() -> None:
    """Add the `gloo` engine to vLLM's weight transfer, beside its own `nccl`. Calling it twice is harmless."""
    from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

    if "gloo" not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine("gloo", "actors.weights.gloo_engine", "GlooWeightTransferEngine")
