"""What vLLM loads in each of its processes (entry point `vllm.general_plugins`)."""

#: Our weight-transfer engine: the name that vLLM knows it under, and its class.
ENGINE = ("leeway", "actors.weights.staged_engine", "StagedWeightTransferEngine")
#: What vLLM mixes into its workers.
WORKER_EXTENSION = "actors.weights.worker_extension.WeightUpdateExtension"


def register() -> None:
    """Add our engine to vLLM's weight transfer, beside its own. Calling it twice is harmless."""
    from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

    if ENGINE[0] not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine(*ENGINE)
