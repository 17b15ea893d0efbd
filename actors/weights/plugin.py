"""What vLLM loads in each of its processes (entry point `vllm.general_plugins`)."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

#: Our weight-transfer engine: the name that vLLM knows it under, and its class.
ENGINE = ("leeway", "actors.weights.staged_engine", "StagedWeightTransferEngine")
#: What vLLM mixes into its workers.
WORKER_EXTENSION = "actors.weights.worker_extension.WeightUpdateExtension"


def register() -> None:
    """Add our engine to vLLM's weight transfer, beside its own, and mend a kernel. Calling it twice is harmless."""
    from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory
    from vllm.utils import cpu_triton_utils

    if ENGINE[0] not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine(*ENGINE)
    # Before a worker registers it: vLLM 0.32's own writes temperature and top-p of guessed tokens into a copy, and what
    # they are sampled with is memory that nobody has written (vllm-project/vllm#55005).
    cpu_triton_utils._expand_kernel_impl = expand_kernel


def expand_kernel(
    output: "Tensor",
    input_val: "Tensor",
    cu_num_tokens: "Tensor",
    replace_from: int,
    replace_to: int,
    _: int | None = None,
) -> None:
    """What requests are sampled with, once for each of their guessed tokens: the CPU's `expand_kernel`.

    Args:
        output: [T], written.
        input_val: [B], of each request.
        cu_num_tokens: int [B], cumulative number of guessed tokens; T in all.
        replace_from, replace_to: a value, and what is written for it.
    """
    counts = cu_num_tokens.diff(prepend=cu_num_tokens.new_zeros(1))
    output.copy_(input_val.masked_fill(input_val == replace_from, replace_to).repeat_interleave(counts))
