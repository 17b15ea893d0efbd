"""Configuration of the learner: optimizer, adapters, supervised stages, execution."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from learner.objective import ObjectiveConfig


class OptimizerConfig(BaseModel):
    """AdamW and its schedule."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    learning_rate: float = Field(default=1e-6, gt=0, description="peak learning rate")
    betas: tuple[float, float] = Field(default=(0.9, 0.99), description="AdamW decay rates of the two moments")
    epsilon: float = Field(default=1e-8, gt=0, description="AdamW denominator offset")
    weight_decay: float = Field(default=0.0, ge=0, description="decoupled weight decay")
    warmup_steps: int = Field(
        default=0, ge=0, description="optimizer steps over which the rate rises linearly to its peak"
    )
    decay_steps: int = Field(
        default=0, ge=0, description="optimizer steps of cosine decay after the warm-up; 0 = constant"
    )
    final_fraction: float = Field(
        default=0.1, ge=0, le=1, description="rate after decay_steps as a fraction of the peak"
    )
    gradient_clip: float = Field(default=1.0, ge=0, description="largest global gradient norm; 0 = unclipped")
    offload: Literal["none", "cpu"] = Field(
        default="none",
        description="where moments, master weights and gradients are, for a learner on GPUs: cpu: in host memory "
        "(FSDP2, also with one rank). Every pass then copies the weights to the GPU, and the optimizer steps on "
        "learner.cpus, so give more of them, and learner.threads",
    )


class LoraSettings(BaseModel):
    """Low-rank adapters (Hu et al. 2021): W + (alpha / rank) B A, with only A and B trained."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    rank: int = Field(default=16, gt=0, description="rank r of every adapter")
    alpha: int = Field(default=32, gt=0, description="scale: the update is alpha / rank x B A")
    targets: str | list[str] = Field(default="all-linear", description="module names that get an adapter")
    broadcast: Literal["merged", "adapters"] = Field(
        default="merged",
        description="what is sent to the generators at every update: merged: merged weights; adapters: A and B alone "
        "(float32), which the generators merge into the model folder that they started from, with the same result; "
        "needs weights.backend gloo",
    )

    @property
    def scale(self) -> float:
        """alpha / r."""
        return self.alpha / self.rank


class LearnerConfig(BaseModel):
    """Everything a `Trainer` needs apart from the model and the seed, and what its processes are given."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    ranks: int = Field(
        default=1,
        ge=1,
        description="ranks of the learner, a process each; from two up the model is sharded over them (FSDP2)",
    )
    cpus: float = Field(default=1.0, ge=0, description="CPUs reserved for one rank")
    gpus: float = Field(default=0.0, ge=0, description="GPUs reserved for one rank")
    gpu_memory: float | None = Field(
        default=None,
        gt=0,
        description="memory of a rank's GPU (GB), by which `leeway check` and `leeway plan` say whether it fits; null "
        "= 80 in a check, and what --hardware has in a plan",
    )
    collective_seconds: float = Field(
        default=3600.0,
        gt=0,
        description="longest wait of a rank for another one within a run (s); the others wait while the first one "
        "waits for engines to come up or trains a reward model",
    )
    objective: ObjectiveConfig = Field(default=ObjectiveConfig(), description="what is optimised")
    optimizer: OptimizerConfig = Field(default=OptimizerConfig(), description="how it is optimised")
    dtype: Literal["float32", "bfloat16"] = Field(
        default="bfloat16",
        description="dtype of compute and of the broadcast weights; master weights are always float32",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="where to train; auto = cuda where there is one"
    )
    threads: int = Field(default=0, ge=0, description="CPU threads of torch; 0 = leave as it is")
    micro_batch_tokens: int = Field(
        default=8192, gt=0, description="tokens of one forward and backward pass (peak memory)"
    )
    logit_chunk_tokens: int = Field(
        default=1024, gt=0, description="rows of logits (tokens x vocabulary) that exist at the same time"
    )
    minibatches: int = Field(
        default=1, gt=0, description="optimizer steps a batch; above 1 the later ones are off-policy"
    )
    epochs: int = Field(default=1, gt=0, description="passes over a batch")
    backward_precision: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="inputs of the backward pass's matrix products when dtype is float32: bfloat16 is about twice as "
        "fast on CPUs with AMX and leaves losses, logprobs and master weights in float32",
    )
    gradient_checkpointing: bool = Field(default=False, description="recompute activations in the backward pass")
    fused_kernels: bool = Field(
        default=True,
        description="replace linear layers, norm, rotary and gated MLP by equivalents that pass over memory less often "
        "and keep less of it; on GPUs, where liger-kernel is installed, the last three by Liger's",
    )
    router_replay: bool = Field(
        default=False,
        description="mixtures of experts: send each token to the experts that the engine sent it to (R3). Needs "
        "generators.engine: vllm with a prefix cache; a token of a group takes layers x experts per token bytes more, "
        "twice that above 256 experts",
    )
    lora: LoraSettings | None = Field(
        default=None, description="train low-rank adapters instead of all weights; null = all"
    )
    checkpoint_keep_last: int = Field(
        default=2, gt=0, description="checkpoints kept per folder; older ones are deleted"
    )
    peak_teraflops: float = Field(
        default=0.0,
        ge=0,
        description="peak of all devices in the compute dtype, TFLOP/s, for mfu; 0 = what large matrix products reach, "
        "measured once",
    )
    inspection_folder: str | None = Field(
        default=None,
        description="where the batch of a run that non-finite steps ended is saved; null = `inspection` in the run "
        "folder",
    )
    max_non_finite_steps: int = Field(
        default=3, gt=0, description="non-finite steps in a row after which training stops"
    )

    @property
    def needs_proximal_pass(self) -> bool:
        """Whether a batch is scored before the first optimizer step on it, all of it by every rank."""
        o, several = self.objective, self.minibatches > 1 or self.epochs > 1
        return o.treats_tokens_apart or (several and (o.old_policy == "proximal" or o.correction != "none"))

    @property
    def offloads(self) -> bool:
        """Whether weights, gradients and moments are in host memory."""
        return self.optimizer.offload == "cpu"

    @property
    def shards(self) -> bool:
        """Whether FSDP2 has the model: over several ranks, or to offload that of one."""
        return self.ranks > 1 or self.offloads

    @property
    def sends_adapters(self) -> bool:
        """Whether engines receive adapters alone and merge them."""
        return self.lora is not None and self.lora.broadcast == "adapters"

    @model_validator(mode="after")
    def _refuse_what_would_be_ignored(self) -> LearnerConfig:
        if self.backward_precision == "bfloat16" and not self.fused_kernels:
            raise ValueError("backward_precision: bfloat16 is done by the fused kernels; set fused_kernels: true")
        if self.offloads and self.device == "cpu":
            raise ValueError(
                "optimizer.offload: cpu is for a learner on a GPU; with device: cpu everything is in host memory "
                "already; leave it out"
            )
        return self


class SftConfig(BaseModel):
    """A supervised stage: AdamW, its schedule, and when to stop."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    learning_rate: float = Field(default=2e-3, gt=0, description="peak learning rate")
    betas: tuple[float, float] = Field(default=(0.9, 0.95), description="AdamW decay rates of the two moments")
    weight_decay: float = Field(default=0.0, ge=0, description="decoupled weight decay")
    warmup_steps: int = Field(default=10, ge=0, description="optimizer steps over which the rate rises linearly")
    gradient_clip: float = Field(default=1.0, ge=0, description="largest global gradient norm; 0 = unclipped")
    batch_size: int = Field(default=32, gt=0, description="examples an optimizer step")
    epochs: int = Field(default=1, gt=0, description="passes over the examples")
    max_steps: int | None = Field(default=None, gt=0, description="optimizer steps at most; null = epochs decide")
    check_every: int = Field(
        default=10,
        gt=0,
        description="optimizer steps between checks of the held-out loss, and of the accuracy that ends a cold start",
    )
    check_from: int = Field(default=0, ge=0, description="optimizer step before which nothing is checked")
    patience: int = Field(
        default=0, ge=0, description="checks without a better held-out loss before stopping; 0 = never"
    )
