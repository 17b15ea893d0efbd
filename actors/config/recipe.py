"""One recipe is one run: the root of the configuration tree."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from actors.config.base import Section
from actors.config.cluster import AutoscaleConfig, MembershipConfig, RayConfig
from actors.config.judge import JudgeConfig
from actors.config.model import ModelConfig
from actors.config.network import NetworkConfig
from actors.config.observables import ObservablesConfig
from actors.config.roles import (
    ControllerConfig,
    EvaluationConfig,
    GeneratorsConfig,
    ReplayConfig,
    SamplingConfig,
    ScorersConfig,
    VerifiersConfig,
    WeightsConfig,
)
from actors.config.stages import ColdStartConfig, DistillationConfig, PreferencesConfig, SampleConfig
from actors.config.storage import StorageConfig
from actors.config.tasks import TasksConfig
from learner.config import LearnerConfig
from sandbox.config import RewardConfig, SandboxConfig

TrackerName = Literal["wandb", "mlflow", "trackio"]


class Recipe(Section):
    """Everything that a run needs."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", description="name of the run's folder, with a time stamp")
    seed: int = Field(0, ge=0, description="seed of tasks, weights made from scratch, sampling and training")
    steps: int = Field(ge=0, description="optimizer steps of the reinforcement learning")
    output: Path = Field(Path("runs"), description="folder of the run folders")
    model: ModelConfig = Field(description="the model that is trained")
    tasks: TasksConfig = Field(description="training and held-out tasks")
    rewards: RewardConfig = Field(default_factory=RewardConfig, description="parts of the reward and their weights")
    observables: ObservablesConfig = Field(
        default_factory=ObservablesConfig, description="what is counted in completions beside their rewards"
    )
    preferences: PreferencesConfig | None = Field(None, description="what no rule decides, as a part of the reward")
    distillation: DistillationConfig | None = Field(
        None,
        description="on-policy distillation: a teacher's log-probabilities in place of rewards; with "
        "learner.objective.name: opd",
    )
    cold_start: ColdStartConfig | None = Field(None, description="supervised training before the first step")
    sample: SampleConfig | None = Field(
        None,
        description="rejection sampling with steps: 0: completions of training tasks are sampled, verified and "
        "curated into curated.jsonl, in place of evaluations",
    )
    generators: GeneratorsConfig = Field(
        default_factory=GeneratorsConfig, description="the pool that generates completions"
    )
    replay: ReplayConfig = Field(default_factory=ReplayConfig, description="the queue and its bounds")
    verifiers: VerifiersConfig = Field(default_factory=VerifiersConfig, description="the pool that scores completions")
    scorers: ScorersConfig = Field(
        default_factory=ScorersConfig,
        description="the pool that holds the reward model of preferences, or the teacher of distillation",
    )
    sandbox: SandboxConfig = Field(default_factory=SandboxConfig, description="what one verifier may use")
    learner: LearnerConfig = Field(default_factory=LearnerConfig, description="ranks, objective and optimizer")
    weights: WeightsConfig = Field(default_factory=WeightsConfig, description="how weights reach the generators")
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig, description="accuracy on the held-out tasks")
    checkpoint_every_steps: int = Field(20, ge=0, description="optimizer steps between checkpoints; 0: only at the end")
    storage: StorageConfig = Field(default_factory=StorageConfig, description="a second copy of the run elsewhere")
    controller: ControllerConfig = Field(default_factory=ControllerConfig, description="what watches the run")
    network: NetworkConfig = Field(default_factory=NetworkConfig, description="addresses and ports of all processes")
    membership: MembershipConfig = Field(default_factory=MembershipConfig, description="who counts as alive")
    ray: RayConfig = Field(default_factory=RayConfig, description="the Ray cluster")
    trackers: list[TrackerName] = Field(
        default_factory=list,
        description="where the numbers of the run go beside its TensorBoard files: wandb, mlflow, trackio, each an "
        "extra of that name; one that fails or hangs has a gap, and costs the run nothing",
    )
    autoscale: AutoscaleConfig | None = Field(
        None, description="size generators, verifiers and scorers while the run goes on; default: as many as count says"
    )

    @property
    def part_weights(self) -> dict[str, float]:
        """The parts that the reward is made of, each with its weight."""
        weights = {name: float(weight) for name, weight in self.rewards.weights if weight}
        return weights if self.preferences is None else {**weights, "preference": self.preferences.weight}

    @property
    def patience_seconds(self) -> float:
        """How long a request waits for a replay that hangs: until it is killed, and another has come up (s)."""
        return self.membership.timeout_seconds + self.controller.hang_seconds + self.controller.startup_seconds

    @model_validator(mode="after")
    def _fits_together(self) -> "Recipe":
        if self.replay.verify_lease_seconds <= self.verifiers.deadline_seconds:
            raise ValueError("replay.verify_lease_seconds must be longer than verifiers.deadline_seconds")
        judge = self.judge
        if judge is not None and judge.timeout_seconds >= self.verifiers.deadline_seconds:
            raise ValueError(
                f"preferences.judge.timeout_seconds is {judge.timeout_seconds:g}, and a group has "
                f"verifiers.deadline_seconds, {self.verifiers.deadline_seconds:g}, in all; raise that, or lower this"
            )
        if self.network.ports.replay + self.replay.shards > 65536:
            raise ValueError("network.ports.replay must leave room below 65536 for replay.shards ports")
        if self.weights.backend == "nccl" and not (self.generators.gpus and self.learner.gpus):
            raise ValueError("weights.backend: nccl needs generators.gpus and learner.gpus; use gloo on CPUs")
        if self.weights.backend == "nccl" and self.generators.engine != "vllm":
            raise ValueError("weights.backend: nccl needs generators.engine: vllm")
        if (self.weights.senders or 1) > self.learner.ranks:
            raise ValueError(f"weights.senders must not be above learner.ranks, which is {self.learner.ranks}")
        return self

    @model_validator(mode="after")
    def _teacher_has_its_part(self) -> "Recipe":
        taught = self.learner.objective.advantage == "teacher"
        if self.distillation is None:
            if taught and self.steps:
                raise ValueError(
                    "learner.objective.advantage: teacher needs a teacher; name one in distillation.teacher"
                )
            return self
        if self.steps and not taught:
            raise ValueError("distillation would be ignored; set learner.objective.name: opd, or leave it out")
        if self.preferences is not None:
            raise ValueError("preferences would be ignored, since distillation looks at no reward; leave one out")
        if self.steps and self.replay.drop_zero_variance:
            raise ValueError(
                "distillation learns from every group, whatever its rewards; set replay.drop_zero_variance: false"
            )
        return self

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> "Recipe":
        if self.preferences is not None and self.replay.group_size == 1:
            raise ValueError(
                "preferences compare the completions of a group, and replay.group_size is 1; set 2 or more"
            )
        if self.preferences is not None and not any(source.preferences for source in self.tasks.sources):
            raise ValueError(
                "preferences would be a part of no reward, since no entry of tasks.sources has preferences: true"
            )
        if self.autoscale is not None and self.autoscale.scorers is not None and not self.has_scorers:
            raise ValueError("autoscale.scorers would be ignored, since this run has no scorers; leave it out")
        if self.learner.shards and self.cold_start is not None and self.cold_start.stop_at_accuracy is not None:
            raise ValueError(
                "cold_start.stop_at_accuracy generates with the whole model, which learner.ranks above 1 shard, and "
                "learner.optimizer.offload likewise; use cold_start.supervised.patience or max_steps"
            )
        if self.sample is not None and self.steps:
            raise ValueError("sample is for fixed weights, so it needs steps: 0; sample in a run of its own")
        if self.tasks.held_out == "all" and (self.steps or self.sample is not None or self.cold_start is not None):
            raise ValueError(
                "tasks.held_out: all leaves nothing to train on or to sample; give a number, or set steps: 0 without "
                "cold_start and sample"
            )
        if self.learner.device == "cuda" and not self.learner.gpus:
            raise ValueError("learner.device: cuda needs learner.gpus, which is 0: Ray shows a rank its GPUs alone")
        if self.learner.offloads and not self.learner.gpus:
            raise ValueError(
                "learner.optimizer.offload: cpu needs learner.gpus, which is 0: everything is in host memory already; "
                "leave it out"
            )
        return self

    @property
    def evaluation_sampling(self) -> SamplingConfig:
        """How completions of evaluations are sampled, where they say nothing of their length as those of training."""
        own = self.evaluation.sampling
        longest = own.max_tokens or self.generators.sampling.max_tokens
        return SamplingConfig(temperature=own.temperature, top_p=own.top_p, max_tokens=longest)

    @property
    def seeded(self) -> bool:
        """Whether each completion is sampled with a seed of its own."""
        chosen = self.generators.seeded
        fixed = self.replay.max_staleness == 0 or self.steps == 0
        return fixed if chosen is None else chosen

    @property
    def judge(self) -> JudgeConfig | None:
        """The generative judge that verifiers ask; None where there is none."""
        return None if self.preferences is None else self.preferences.judge

    @property
    def has_scorers(self) -> bool:
        """Whether a reward model or a teacher scores what is generated: in training, or, the first, for samples."""
        preferences = self.preferences
        if self.distillation is not None and self.steps:
            return True
        return preferences is not None and preferences.judge is None and bool(self.steps or self.sample is not None)

    @property
    def cpus(self) -> float:
        """CPUs that Ray reserves for all pools together."""
        g, v, s = self.generators, self.verifiers, self.scorers
        scorers = s.count * s.cpus if self.has_scorers else 0.0
        return g.count * g.cpus + v.count * v.cpus + scorers + self.learner.ranks * self.learner.cpus
