"""What is in memory of one rank of the learner, of one device of a generator, and of a scorer (bytes).

It follows what this release does, see `learner.trainer` and `learner.model.fused`: master weights, gradients and both
moments of AdamW are float32 (16 bytes a parameter; Rajbhandari et al. 2020, ZeRO, section 3.1), sharded over the ranks
by FSDP2; what a pass keeps is counted tensor by tensor, as Korthikanti et al. 2022 (section 4) do for GPT.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from actors.config.roles import GeneratorsConfig, ScorersConfig
from actors.planning.architectures import ModelShape
from learner.config import LearnerConfig

FLOAT32 = 4
BYTES = {"float32": 4, "bfloat16": 2}
#: Layers whose gathered weights FSDP2 holds at a time: the one at work and the next.
GATHERED_LAYERS = 2
#: `learner.model.logprobs.BLOCK`, which is not imported for the torch that comes with it.
BLOCK = 8192
#: `learner.model.snapshot.PIECE_BYTES`, likewise.
PIECE_BYTES = 2**26
#: Of a device of an engine, what is neither weights nor cache: activations, graphs, the CUDA context (bytes).
ENGINE_OVERHEAD = 3e9

#: On CPUs: code that is first read in a step (bytes), and what the C library's heap keeps free between the tensors of a
#: pass, as a share of these; what stays from step to step lies close. Both are taken from the first three cases of
#: `python -m benchmarks memory`; the others, and longer sequences, test them.
CODE, HOLES = 60e6, 0.3

Parts = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """The tokens of one micro-batch.

    Attributes:
        prompt, completion: tokens of the longest prompt and completion.
        group_size: completions of one prompt.
        tokens: `learner.micro_batch_tokens`.
    """

    prompt: int
    completion: int
    group_size: int
    tokens: int

    @property
    def whole(self) -> int:
        """Tokens of the longest sequence where a micro-batch cannot hold it, and it goes through alone; else 0."""
        longest = self.prompt + self.completion
        return longest if longest > self.tokens else 0

    @property
    def fed(self) -> int:
        """Tokens of one pass: as many as are allowed, or one sequence that is longer."""
        return self.whole or self.tokens

    @property
    def rows(self) -> float:
        """Rows of attention of one pass: a prompt is computed once for its completions, and attended to by each."""
        together = min(self.group_size, max(1, (self.tokens - self.prompt) // self.completion))
        return self.fed * together * (self.prompt + self.completion) / (self.prompt + together * self.completion)


def adapters(a: ModelShape, rank: int) -> int:
    """Parameters of adapters of all linear layers of attention and MLP (Hu et al. 2021): r (in + out) of each."""
    keys = a.key_value_width // 2
    attention = (a.hidden + a.query_width) + 2 * (a.hidden + keys) + (a.value_width + a.hidden)
    return rank * a.layers * (attention + 3 * (a.hidden + a.mlp_width))


def learner_rank(a: ModelShape, config: LearnerConfig, batch: MicroBatch, share: float = 1.0) -> dict[str, float]:
    """What the largest moment of a step holds on one rank.

    Args:
        a: the model.
        config: of the learner.
        batch: its longest micro-batch.
        share: of the weights to send, which the rank keeps a copy of in host memory: 0 where others send.
    """
    kept, backward, head = activations(a, config, batch), _temporaries(a, config, batch), _output_layer(a, config)
    parts = dict.fromkeys(_state(a, config), 0.0) if config.offloads else _state(a, config)
    parts |= {
        "gathered layers": _gathered(a, config) if config.shards else 0.0,
        "activations": kept + backward,
        "output layer": head,
        "staging": _staging(a, config, kept + backward + head, share),
    }
    return parts | {"allocator": 0.0 if config.gpus else _allocator(parts)}


def learner_host(a: ModelShape, config: LearnerConfig, share: float = 1.0) -> dict[str, float]:
    """What one rank of a learner on GPUs has in host memory, at the least: torch rounds pinned memory up.

    Args:
        a: the model.
        config: of the learner.
        share: of the weights to send, of which the rank keeps the copy that is being sent and a newer one.
    """
    parts = _state(a, config) if config.offloads else {}
    return parts | {"staging": 2 * share * _sent(a, config), "checkpoint": checkpoint(a, config)}


def checkpoint(a: ModelShape, config: LearnerConfig) -> float:
    """Bytes of a rank's share of a checkpoint, which lies in host memory until it is written: all but the gradients."""
    return sum(size for part, size in _state(a, config).items() if part != "gradients")


def checkpoint_beside(a: ModelShape, config: LearnerConfig, parts: Parts, every_steps: int) -> float:
    """What a checkpoint adds to a rank on CPUs (bytes): written beside steps, or, at the end alone, in place of one.

    Args:
        a: the model.
        config: of the learner.
        parts: of a step, from `learner_rank`.
        every_steps: `checkpoint_every_steps`.
    """
    step = 0.0 if every_steps else sum(parts[part] for part in ("gradients", "activations", "output layer"))
    return max(0.0, checkpoint(a, config) - step)


def _state(a: ModelShape, config: LearnerConfig) -> dict[str, float]:
    """What is there from step to step, or, of gradients, all through a pass."""
    trained = _trained(a, config)
    frozen = 0 if config.lora is None else a.parameters
    reference = a.parameters if config.objective.kl != "none" and config.lora is None else 0
    return {
        "weights": FLOAT32 * (trained + frozen) / config.ranks,
        "gradients": FLOAT32 * trained / config.ranks,
        "moments": 2 * FLOAT32 * trained / config.ranks,
        "reference": FLOAT32 * reference / config.ranks,
    }


def _trained(a: ModelShape, config: LearnerConfig) -> int:
    return a.parameters if config.lora is None else adapters(a, config.lora.rank)


def _sent(a: ModelShape, config: LearnerConfig) -> float:
    """Bytes of a snapshot."""
    return _trained(a, config) * FLOAT32 if config.sends_adapters else a.parameters * BYTES[config.dtype]


def _staging(a: ModelShape, config: LearnerConfig, step: float, share: float) -> float:
    """What a snapshot needs: on a GPU the pieces that are gathered, after a pass; on CPUs the copies themselves.

    Args:
        a: the model.
        config: of the learner.
        step: bytes of a pass, in whose place things are while there is none.
        share: as `learner_rank` has it.
    """
    if config.offloads:
        return 0.0  # a snapshot is made of what is in host memory
    if config.gpus:
        # A layer that has an adapter is merged whole, in float32: the weight, the product and their sum.
        merged = 3 * FLOAT32 * a.hidden * a.mlp_width if config.lora is not None and not config.sends_adapters else 0
        gathered = PIECE_BYTES if share and config.ranks > 1 else 0
        return max(0.0, merged + PIECE_BYTES / config.ranks + gathered - step)
    sent = share * _sent(a, config)
    # the copy that is being sent; and while the next one is made, a second in the place of a pass
    return sent + max(0.0, sent - step)


def loading(a: ModelShape, config: LearnerConfig) -> dict[str, float]:
    """What a rank that has a share of a model holds while it loads: that, and the largest tensor of the files as read.

    What is offloaded passes through the GPU all the same, where `transformers` makes the shards of a model.
    """
    return {"weights": FLOAT32 * a.parameters / config.ranks, "gathered layers": FLOAT32 * a.largest_layer}


def activations(a: ModelShape, config: LearnerConfig, batch: MicroBatch) -> float:
    """What the forward pass of one micro-batch keeps for its backward pass (bytes).

    The residual stream is in the compute dtype where FSDP2 has cast the embedding, and else float32: autocast leaves it
    alone.
    """
    width = BYTES[config.dtype]
    residual = width if config.shards else FLOAT32
    layer: float = batch.fed * (2 * a.hidden * (residual + width) + (2 * a.mlp_width + a.value_width) * width)
    layer += batch.rows * (a.query_width + a.key_value_width + a.value_width) * width
    if not config.fused_kernels:
        layer += batch.fed * (a.mlp_width * 2 * width + a.query_width * width)
    if not config.gradient_checkpointing:
        return a.layers * layer
    return a.layers * batch.fed * a.hidden * residual + layer


def _temporaries(a: ModelShape, config: LearnerConfig, batch: MicroBatch) -> float:
    """What the backward pass of a gated MLP makes: six tensors of its width (learner.model.fused, `_GatedDown`)."""
    return float(6 * a.mlp_width * BYTES[config.dtype] * batch.fed)


def _gathered(a: ModelShape, config: LearnerConfig) -> float:
    """Weights in the compute dtype that FSDP2 has gathered, and a layer's gradient before it is scattered.

    What is offloaded also passes through: of one layer at a time a shard of the gradient, on its way to the host.
    """
    layers = min(GATHERED_LAYERS, a.layers) * a.largest_layer
    passing = a.largest_layer / config.ranks if config.offloads else 0.0
    return BYTES[config.dtype] * (a.root + layers) + FLOAT32 * (a.largest_layer + passing)


def _output_layer(a: ModelShape, config: LearnerConfig) -> float:
    """Logits and probabilities of a chunk and a block, the block's head in the compute dtype (learner.model.logprobs).

    FSDP2 scatters the gradient of the head, which is whole until then.
    """
    width, block = BYTES[config.dtype], min(BLOCK, a.vocabulary)
    narrow = width if width != FLOAT32 else 0
    rows = config.logit_chunk_tokens * block * (2 * FLOAT32 + narrow)
    whole = FLOAT32 * a.embedding if config.shards and config.lora is None else 0
    return float(rows + narrow * block * a.hidden + whole)


def _allocator(parts: Parts) -> float:
    return CODE + HOLES * (parts["activations"] + parts["output layer"])


def generator_device(a: ModelShape, generators: GeneratorsConfig, memory: float) -> dict[str, float]:
    """What one device of a generator holds; the cache gets what the rest leaves of its share of `memory` (bytes).

    An update is received into host memory. What passes through a GPU on its way is within the overhead.
    """
    own = a.parameters * BYTES[generators.dtype] / generators.vllm.tensor_parallel_size
    if not generators.gpus:
        cache = generators.vllm.kv_cache_gib * 2.0**30
        return {"weights": own, "staging": own, "overhead": 0.0, "key-value cache": cache}
    cache = memory * generators.vllm.gpu_memory_utilization - own - ENGINE_OVERHEAD
    return {"weights": own, "staging": 0.0, "overhead": ENGINE_OVERHEAD, "key-value cache": max(0.0, cache)}


def scorer_device(a: ModelShape, scorers: ScorersConfig, dtype: str, logit_chunk_tokens: int) -> dict[str, float]:
    """What a scorer holds, which only has forward passes of `scorers.batch_tokens`.

    Args:
        a: the model that it holds, in float32.
        scorers: its pool.
        dtype: what it computes in.
        logit_chunk_tokens: tokens whose logits are there at a time; 0 for a reward model, which has none.
    """
    width = BYTES[dtype]
    layer = 2 * a.hidden * (FLOAT32 + width) + 3 * a.mlp_width * width
    parts = {
        "weights": float(FLOAT32 * a.parameters),
        "activations": float(scorers.batch_tokens * layer),
        "output layer": float(logit_chunk_tokens * min(BLOCK, a.vocabulary) * 2 * FLOAT32),
    }
    return parts | {"allocator": 0.0 if scorers.gpus else _allocator(parts)}


def cache_tokens(a: ModelShape, generators: GeneratorsConfig, cache: float) -> int:
    """Tokens that the key-value caches of one engine hold, of `cache` bytes a device.

    Heads of keys and values are divided over devices; a common latent is on each of them.
    """
    split = 1 if a.kv_rank else min(generators.vllm.tensor_parallel_size, a.kv_heads)
    return int(cache * split / (a.cache_width * BYTES[generators.dtype]))
