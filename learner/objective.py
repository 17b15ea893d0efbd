"""Configuration of the objective: a preset by name, and its parts; the formulas are in `learner.algorithms`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

GroupAdvantage = Literal["group", "mean", "leave_one_out", "mean_normalised", "none"]
Advantage = Literal[GroupAdvantage, "by_part", "teacher"]
Aggregation = Literal["sequence", "token", "constant"]
Correction = Literal["none", "token_tis", "sequence_tis", "icepop", "sequence_mask", "kpop", "trust_region"]
Divergence = Literal["none", "k1", "k2", "k3"]
TokenDivergence = Literal["tv", "kl"]
Loss = Literal["clipped", "gspo", "cispo", "sapo", "dppo", "clip_cov", "kl_cov", "reinforce"]
Name = Literal[
    "grpo",
    "dr_grpo",
    "dapo",
    "gspo",
    "cispo",
    "sapo",
    "dppo",
    "clip_cov",
    "kl_cov",
    "maxrl",
    "gdpo",
    "decoupled_ppo",
    "reinforce",
    "opd",
]

# An objective's name fixes these parts as its paper does; any of them can be overridden by its own key.
PRESETS: dict[str, dict[str, Any]] = {
    "grpo": {"loss": "clipped", "advantage": "group", "aggregation": "sequence"},
    "dr_grpo": {"loss": "clipped", "advantage": "mean", "aggregation": "constant"},
    "dapo": {"loss": "clipped", "advantage": "group", "aggregation": "token", "clip_high": 0.28},
    "gspo": {
        "loss": "gspo",
        "advantage": "group",
        "aggregation": "sequence",
        "clip_low": 3e-4,
        "clip_high": 4e-4,
    },
    "cispo": {"loss": "cispo", "advantage": "group", "aggregation": "token", "clip_low": 1.0, "clip_high": 4.0},
    "sapo": {"loss": "sapo", "advantage": "group", "aggregation": "sequence"},
    "dppo": {"loss": "dppo", "advantage": "group", "aggregation": "token"},
    "clip_cov": {"loss": "clip_cov", "advantage": "group", "aggregation": "token"},
    "kl_cov": {"loss": "kl_cov", "advantage": "group", "aggregation": "token"},
    "maxrl": {"loss": "clipped", "advantage": "mean_normalised", "aggregation": "token"},
    "gdpo": {"loss": "clipped", "advantage": "by_part", "aggregation": "sequence"},
    "decoupled_ppo": {
        "loss": "clipped",
        "advantage": "group",
        "aggregation": "token",
        "old_policy": "proximal",
        "correction": "token_tis",
        "correction_high": 5.0,
    },
    "reinforce": {
        "loss": "reinforce",
        "advantage": "group",
        "aggregation": "sequence",
        "old_policy": "proximal",
        "correction": "token_tis",
    },
    "opd": {
        "loss": "reinforce",
        "advantage": "teacher",
        "aggregation": "token",
        "old_policy": "proximal",
        "correction": "token_tis",
    },
}


class ObjectiveConfig(BaseModel):
    """The reinforcement-learning objective: a named preset and its parts."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Name = Field(
        default="grpo", description="preset that sets the defaults of loss, advantage, aggregation and clips"
    )
    loss: Loss = Field(default="clipped", description="per-token (or, for gspo, per-sequence) surrogate")
    advantage: Advantage = Field(
        default="group",
        description="baseline and scale: group mean and std, group mean, leave-one-out mean, group mean by itself "
        "(MaxRL), or the bare reward; by_part: group mean and std of each part of the reward, added up and divided by "
        "the standard deviation of the batch (GDPO); teacher: of each token, its log-probability under a teacher less "
        "that under the old policy, whatever the reward (needs `distillation`)",
    )
    part_weights: dict[str, float] | None = Field(
        default=None,
        description="advantage by_part: weight of each part in the sum, by name; null = its weight in the reward "
        "(rewards.weights, preferences.weight)",
    )
    aggregation: Aggregation = Field(
        default="sequence",
        description="mean per sequence then per group; mean over all tokens; sum over constant_length",
    )
    constant_length: int = Field(default=1024, gt=0, description="divisor of the constant aggregation, in tokens")
    old_policy: Literal["behaviour", "proximal"] = Field(
        default="behaviour",
        description="denominator of the ratio: the engine's logprobs, or the learner's own before the first "
        "optimizer step on the batch",
    )
    clip_low: float = Field(default=0.2, ge=0, description="lower clip: the ratio counts down to 1 - clip_low")
    clip_high: float = Field(default=0.2, ge=0, description="upper clip: the ratio counts up to 1 + clip_high")
    dual_clip: float | None = Field(
        default=None,
        gt=1,
        description="bound on ratio x |advantage| for negative advantages (dual-clip PPO); null = none",
    )
    divergence: TokenDivergence = Field(
        default="tv",
        description="loss dppo: how far a token's probability has moved: total variation or Kullback-Leibler "
        "divergence between sampling it and not",
    )
    divergence_bound: float = Field(
        default=0.2,
        gt=0,
        description="loss dppo: a token that has moved so far in the direction of its advantage is left out",
    )
    gate_positive: float = Field(
        default=1.0, gt=0, description="loss sapo: temperature of the gate where the advantage is positive"
    )
    gate_negative: float = Field(
        default=1.05, gt=0, description="loss sapo: temperature of the gate where it is negative; more fades faster"
    )
    covariance_share: float = Field(
        default=2e-4,
        gt=0,
        le=1,
        description="loss clip_cov and kl_cov: share of a step's tokens that are treated apart, of those whose logprob "
        "and advantage vary together most; at least one. Each step runs the batch through the model once more",
    )
    covariance_low: float = Field(
        default=1.0, description="loss clip_cov: the covariance from which on a token may be left out"
    )
    covariance_high: float = Field(default=5.0, description="loss clip_cov: the covariance up to which it may be")
    covariance_penalty: float = Field(
        default=1.0, ge=0, description="loss kl_cov: beta, weight of the KL term of the tokens that are treated apart"
    )
    log_ratio_penalty: float = Field(
        default=0.0,
        ge=0,
        description="weight of the squared log-ratio to the old policy, per nat squared, which is taken off the "
        "objective of every token",
    )
    correction: Correction = Field(
        default="none",
        description="weight for the mismatch proximal / behaviour: truncated or masked, per token or sequence",
    )
    correction_low: float = Field(
        default=0.5, ge=0, description="lower bound of the kept ratio (icepop, sequence_mask)"
    )
    correction_high: float = Field(
        default=2.0,
        gt=0,
        description="cap C of the truncated weights, or upper bound of the kept ratio (icepop, sequence_mask)",
    )
    correction_divergence: float = Field(
        default=0.1,
        gt=0,
        description="largest Kullback-Leibler divergence of a token that is kept (nats): phi of kpop, both ways round; "
        "delta of trust_region, which rejects the whole completion with a token above it",
    )
    kl: Divergence = Field(default="none", description="estimator of KL(policy || reference)")
    kl_coefficient: float = Field(default=0.0, ge=0, description="beta, weight of the KL term")
    reference_refresh_steps: int = Field(
        default=0, ge=0, description="copy the policy into the reference every so many steps; 0 = frozen"
    )
    entropy_coefficient: float = Field(default=0.0, ge=0, description="weight of the entropy bonus, per nat")
    max_token_age: int | None = Field(
        default=None, ge=0, description="tokens older than this many versions get weight 0; null = no bound"
    )
    age_half_life: float | None = Field(
        default=None, gt=0, description="a token's weight halves with every so many versions of age; null = no decay"
    )
    mask_truncated: bool = Field(default=False, description="give truncated completions no weight in the loss")

    @model_validator(mode="before")
    @classmethod
    def _fill_preset(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {**PRESETS.get(data.get("name", "grpo"), {}), **data}

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> ObjectiveConfig:
        if self.correction != "none" and self.old_policy == "behaviour":
            raise ValueError(
                "correction weighs proximal / behaviour and needs old_policy: proximal; with old_policy: behaviour "
                "the ratio itself already starts at the behaviour policy and would be corrected twice"
            )
        if self.advantage == "teacher" and self.loss in ("gspo", "clip_cov", "kl_cov"):
            raise ValueError(
                f"advantage: teacher is of each token, and loss: {self.loss} takes one of a completion; use name: opd, "
                "or another loss"
            )
        if (self.kl == "none") != (self.kl_coefficient == 0.0):
            raise ValueError("kl and kl_coefficient go together: set both, or neither")
        return self

    @property
    def treats_tokens_apart(self) -> bool:
        """Whether each optimizer step chooses tokens by covariance, for which all must have been scored."""
        return self.loss in ("clip_cov", "kl_cov")

    @property
    def zero_advantage_is_silent(self) -> bool:
        """Whether a completion with advantage 0 has no gradient, so that the step may skip it."""
        silent = self.kl == "none" and self.entropy_coefficient == self.log_ratio_penalty == 0.0
        return silent and self.advantage != "teacher"
