"""What vLLM loads in each of its processes (entry point `vllm.general_plugins`)."""

#: Our weight-transfer engines by the recipe's `weights.backend`: the name that vLLM knows each under, and its class.
ENGINES = {
    "gloo": ("gloo", "actors.weights.gloo_engine", "GlooWeightTransferEngine"),
    "nccl": ("nccl_abortable", "actors.weights.nccl_engine", "AbortableNcclEngine"),
}
#: What vLLM mixes into its workers.
WORKER_EXTENSION = "actors.weights.worker_extension.WeightUpdateExtension"


def register() -> None:
    """Add our engines to vLLM's weight transfer, beside its own. Calling it twice is harmless."""
    from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

    for name, module, engine in ENGINES.values():
        if name not in WeightTransferEngineFactory._registry:
            WeightTransferEngineFactory.register_engine(name, module, engine)
