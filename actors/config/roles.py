"""The roles of a run: generators, replay, verifiers, scorers, weights, evaluation, and the controller over them."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from actors.config.base import Section


class SamplingConfig(Section):
    """How completions are sampled."""

    temperature: float = Field(1.0, gt=0, description="softmax temperature")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus of the distribution that is sampled from (share)")
    max_tokens: int = Field(64, ge=1, description="longest completion (tokens)")


class EvaluationSamplingConfig(Section):
    """How completions of evaluations are sampled; temperature and top_p are the R1 paper's."""

    temperature: float = Field(0.6, gt=0, description="softmax temperature")
    top_p: float = Field(0.95, gt=0, le=1, description="nucleus of the distribution that is sampled from (share)")
    max_tokens: int | None = Field(
        None, ge=1, description="longest completion (tokens); default: generators.sampling.max_tokens"
    )


class VllmConfig(Section):
    """What reaches vLLM. Anything not named here goes into `engine_args`, as vLLM names it."""

    max_model_len: int | None = Field(
        None, ge=8, description="longest prompt and completion (tokens); default: the model's"
    )
    max_num_seqs: int = Field(256, ge=1, description="most sequences in one engine step")
    enforce_eager: bool = Field(True, description="no graph capture; graphs need a compiler and a warm-up")
    tensor_parallel_size: int = Field(1, ge=1, description="workers of one engine")
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1, description="share of a GPU's memory")
    kv_cache_gib: int = Field(1, ge=1, description="key-value cache on CPUs (GiB)")
    prefix_cache: Literal["off", "per_version", "across_versions"] = Field(
        "off",
        description="off: none; per_version: emptied at every update, running requests recompute their prefix under "
        "the new weights; across_versions: kept, so that prefixes of older weights are reused",
    )
    engine_args: dict[str, Any] = Field(
        default_factory=dict,
        description="further AsyncEngineArgs; a worker_extension_cls has to be a subclass of ours, and a "
        "speculative_config of method ngram",
    )


class SyntheticConfig(Section):
    """The synthetic engine: no model, lengths and rewards sampled from distributions. For load tests only."""

    tokens_per_second: float = Field(1000.0, gt=0, description="speed of one sequence (tokens/s)")
    mean_tokens: float = Field(64.0, gt=0, description="mean length of a completion (tokens)")
    sigma: float = Field(0.5, ge=0, description="standard deviation of the logarithm of the length")
    pass_rate: float = Field(0.5, ge=0, le=1, description="share of completions that quote the right answer")
    lengths: Literal["lognormal", "pareto"] = Field("lognormal", description="distribution of a completion's length")
    tail_index: float = Field(
        1.5, gt=1, description="exponent of the Pareto tail; the smaller, the longer are the few long completions"
    )
    pass_rate_spread: float = Field(
        0.0, ge=0, le=1, description="how far pass rates of tasks differ: 0 all the same, 1 always or never solved"
    )


class GeneratorsConfig(Section):
    """The pool that generates completions."""

    count: int = Field(1, ge=0, description="number of generators")
    engine: Literal["vllm", "transformers", "synthetic"] = Field("vllm", description="what generates the completions")
    dtype: Literal["float32", "bfloat16"] = Field("bfloat16", description="parameters and activations of the engine")
    groups_in_flight: int = Field(32, ge=1, le=4096, description="groups that one generator works on at a time")
    threads: int = Field(1, ge=1, description="CPU threads of one engine")
    cpus: float = Field(1.0, ge=0, description="CPUs that Ray reserves for one generator")
    gpus: float = Field(0.0, ge=0, description="GPUs that Ray reserves for one generator")
    startup_seconds: float = Field(600.0, gt=0, description="longest wait for an engine to come up (s)")
    sampling: SamplingConfig = Field(default_factory=SamplingConfig, description="how training completions are sampled")
    vllm: VllmConfig = Field(default_factory=VllmConfig, description="the vLLM engine")
    synthetic: SyntheticConfig = Field(default_factory=SyntheticConfig, description="the synthetic engine")
    progress_tokens: int = Field(
        512,
        ge=1,
        description="a completion's new tokens are reported once there are so many, so that another generator can "
        "continue it where this one is lost (tokens)",
    )
    drain_seconds: float = Field(
        25.0,
        gt=0,
        description="a generator that is told to leave, by SIGTERM or by the run, has so long to finish what it works "
        "on and to hand in the rest (s); 5 s less than the time until SIGKILL, which Kubernetes sets to 30 s",
    )
    seeded: bool | None = Field(
        None,
        description="sample each completion with a seed of its own, which follows from run, task, version and its "
        "position in the group; default: only where replay.max_staleness or steps is 0, since no other run can be "
        "repeated",
    )


class JournalConfig(Section):
    """What a replay that dies is brought back from: in the run folder, under journal/."""

    durability: Literal["fsync", "buffered", "off"] = Field(
        "buffered",
        description="when a change counts as kept, and is answered. buffered: the operating system has it, so that "
        "the process may be killed at any moment and nothing is lost; fsync: the disk has it, so that the machine "
        "may lose its power; off: never, and a replay that dies takes all groups since the last checkpoint with it",
    )
    keep: Literal["uncommitted", "all"] = Field(
        "uncommitted",
        description="uncommitted: groups are deleted once a checkpoint contains their step; all: every batch that was "
        "trained is kept, so that it can be trained again; the disk then needs room for the whole run",
    )

    @model_validator(mode="after")
    def _kept_somewhere(self) -> Self:
        if self.keep == "all" and self.durability == "off":
            raise ValueError("keep: all keeps batches in the journal, which durability: off leaves out; change one")
        return self


class ReplayConfig(Section):
    """The queue between generation and learning, and its bounds."""

    max_staleness: int = Field(4, ge=0, description="most versions between the learner and a group's oldest token")
    groups_per_batch: int = Field(32, ge=1, description="groups in one optimizer step's batch")
    group_size: int = Field(8, ge=1, le=4096, description="completions of one prompt")
    drop_zero_variance: bool = Field(
        True, description="drop groups whose rewards are all equal (DAPO's dynamic sampling)"
    )
    lease_seconds: float = Field(
        120.0,
        gt=0,
        description="a task is issued again when its generator has not said for this long that it has a new token (s)",
    )
    generation_attempts: int = Field(
        3,
        ge=1,
        description="a task whose generator or lease was lost this many times in a row is dropped: it may be the cause",
    )
    verify_lease_seconds: float = Field(
        30.0,
        gt=0,
        description="a group is verified again when its verifier has not said for this long that it is its turn (s)",
    )
    verify_attempts: int = Field(
        3, ge=1, description="attempts after which a group whose verification breaks is dropped"
    )
    shards: int = Field(
        1,
        ge=1,
        le=64,
        description="processes that hold groups, each with a journal and a share of every batch of its own, so that "
        "one can die and come back while the others serve; divides groups_per_batch",
    )
    max_message_bytes: int = Field(256 * 2**20, ge=2**16, description="largest message that is accepted (bytes)")
    journal: JournalConfig = Field(
        default_factory=JournalConfig, description="what a replay that dies is brought back from"
    )
    stragglers: Literal["drop", "wait", "mask"] = Field(
        "drop",
        description="what becomes of groups with tokens over replay.max_staleness, long ones for the most part. drop: "
        "they are dropped and their tasks issued again, so that training is biased against long completions; wait: "
        "there are none, since the learner waits rather than outrun a group; mask: they stay, and tokens over it "
        "get no weight",
    )

    @model_validator(mode="after")
    def _shares_are_equal(self) -> Self:
        if self.groups_per_batch % self.shards:
            raise ValueError(
                f"replay.shards must divide replay.groups_per_batch; {self.groups_per_batch} groups cannot be shared "
                f"by {self.shards}"
            )
        return self

    def oldest_trained(self, version: int) -> int | None:
        """The oldest version whose tokens have weight at `version`; None where all that is delivered has."""
        return version - self.max_staleness if self.stragglers == "mask" else None

    max_progress_bytes: int = Field(
        2**30,
        ge=0,
        le=2**30,
        description="most that is kept in memory of unfinished groups, for generators that continue them; what is "
        "reported beyond it is not kept, and is generated again where its generator is lost (bytes)",
    )


class VerifiersConfig(Section):
    """The pool that scores completions."""

    count: int = Field(1, ge=0, description="number of verifier actors")
    cpus: float = Field(0.5, ge=0, description="CPUs that Ray reserves for one verifier")
    groups_per_lease: int = Field(16, ge=1, le=4096, description="groups that a verifier takes at a time")
    deadline_seconds: float = Field(20.0, gt=0, description="longest scoring of one group (s)")


class ScorersConfig(Section):
    """The pool that holds the reward model of `preferences`, or the teacher of `distillation`, and answers the
    verifiers; a run without either has none."""

    count: int = Field(1, ge=0, description="number of scorers")
    cpus: float = Field(1.0, ge=0, description="CPUs that Ray reserves for one scorer")
    gpus: float = Field(
        0.0, ge=0, description="GPUs that Ray reserves for one scorer, which may be a fraction; 0: it works on the CPU"
    )
    threads: int = Field(1, ge=1, description="CPU threads of one scorer")
    batch_tokens: int = Field(
        16384,
        ge=1,
        description="most tokens of one forward pass, which groups of all verifiers share; a group that has more by "
        "itself takes several (tokens)",
    )


class WeightsConfig(Section):
    """How the learner's weights reach the generators."""

    backend: Literal["gloo", "nccl"] = Field("gloo", description="what carries them: gloo, or nccl between GPUs")
    bucket_bytes: int = Field(
        64 * 2**20, ge=2**10, description="parameters are packed into buckets of this size (bytes)"
    )
    deadline_seconds: float = Field(
        60.0,
        gt=0,
        description="a generator that has not taken an update by then is evicted until it registers anew, and one that "
        "hears nothing for so long in the middle of an update gives it up (s)",
    )
    delta: bool = Field(
        False,
        description="send what has changed since the update before, wherever all have taken that one; learner and "
        "generators keep a copy of it in host memory",
    )
    senders: int | None = Field(
        None,
        ge=1,
        le=4096,
        description="ranks of the learner that send, each a share of the weights from its own host memory, all at the "
        "same time; null: the first rank of each of its nodes. Adapters alone are sent by one",
    )


class EvaluationConfig(Section):
    """How accuracy is measured on the held-out tasks."""

    every_steps: int = Field(
        20, ge=0, description="optimizer steps between evaluations, while training continues; 0: none between"
    )
    samples: int = Field(
        4, ge=1, le=4096, description="completions a task before and after training, for pass@1 and maj@k"
    )
    keep_completions: bool = Field(
        False,
        description="write every completion of the evaluation after training, with its verdict and where it is from, "
        "to evaluation-after.jsonl",
    )
    samples_between: int = Field(1, ge=1, le=4096, description="completions a task in the evaluations between")
    sampling: EvaluationSamplingConfig = Field(
        default_factory=EvaluationSamplingConfig, description="how evaluation completions are sampled"
    )
    stall_seconds: float = Field(
        1800.0,
        gt=0,
        description="an evaluation is given up when no held-out task was answered, scored or left out for this long "
        "(s); while there is progress it may take as long as it likes",
    )


class ControllerConfig(Section):
    """What starts, watches and ends the pools."""

    restarts: int = Field(
        10,
        ge=0,
        description="restarts of processes within controller.restart_window_seconds before the run gives up; whatever "
        "happens to several at once counts as one",
    )
    restart_window_seconds: float = Field(
        3600.0, gt=0, description="time after which a restart counts no more: a run may take weeks (s)"
    )
    hang_seconds: float = Field(
        60.0,
        gt=0,
        description="time that a process has to come back after it was taken off the list of members for its silence, "
        "before it is killed and replaced (s)",
    )
    fruitless_batches: int = Field(
        50,
        ge=0,
        description="the run ends where so many batches' worth of groups were dropped in a row and no batch came "
        "together (DAPO: max_num_gen_batches); 0: never",
    )
    interval_seconds: float = Field(1.0, gt=0, description="time between two looks at the pools (s)")
    startup_seconds: float = Field(
        300.0,
        gt=0,
        description="longest wait for a process to start and answer (s); imports of torch and vLLM take most",
    )
    stop_seconds: float = Field(
        15.0, gt=0, description="time that a process has to end by itself once it is told to, before it is killed (s)"
    )
    wind_down_seconds: float = Field(
        25.0,
        gt=0,
        description="time for a graceful shutdown after an interrupt, before the run is killed (s); 5 s less than the "
        "time until SIGKILL, which Kubernetes and Slurm set to 30 s",
    )
    retry_seconds: float = Field(
        60.0,
        gt=0,
        description="time after which the place of a generator or verifier that did not come up is tried again (s); it "
        "doubles with every attempt that fails, up to 16 times of this",
    )
    orphan_seconds: float = Field(
        300.0,
        gt=0,
        description="a process that hears of neither replay nor controller for this long ends by itself (s); the "
        "replay does where it hears of no controller",
    )
