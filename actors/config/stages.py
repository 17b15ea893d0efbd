"""What stands beside the reinforcement learning: a cold start, the learned part of the reward, rejection sampling."""

from typing import Literal

from pydantic import Field, model_validator

from actors.config.base import Location, Section
from actors.config.judge import JudgeConfig
from learner.config import SftConfig


class ColdStartConfig(Section):
    """Supervised training before the reinforcement learning."""

    traces: Literal["addition"] | Location = Field(
        description="addition: digit-by-digit traces of the addition tasks; else a file with prompt (or messages) and "
        "response, JSON lines or Parquet (.parquet), or its URI"
    )
    examples: int = Field(20_000, ge=1, description="most examples that are read")
    development: int = Field(
        128, ge=1, description="tasks on which the accuracy is measured meanwhile; never trained on"
    )
    stop_at_accuracy: float | None = Field(
        None, gt=0, le=1, description="end once this share of the development tasks is right; default: after all steps"
    )
    held_out: int = Field(
        0,
        ge=0,
        description="tasks whose examples are held out; the loss on them is measured every supervised.check_every "
        "steps, and supervised.patience looks at it",
    )
    supervised: SftConfig = Field(default_factory=SftConfig, description="the optimizer and its schedule")

    @model_validator(mode="after")
    def _patience_needs_held_out_examples(self) -> "ColdStartConfig":
        if self.supervised.patience and not self.held_out:
            raise ValueError("supervised.patience waits for the held-out loss, so it needs held_out above 0")
        return self


class PreferencesConfig(Section):
    """What no rule decides, as in the last stage of DeepSeek-R1: a scalar reward model (Bradley-Terry), or a judge."""

    pairs: Location | None = Field(
        None,
        description="file, JSON lines or Parquet (.parquet), or its URI, with prompt (or messages), chosen and "
        "rejected, from which a reward model is trained before anything else; held-out and development tasks are "
        "excluded",
    )
    reward_model: Location | None = Field(
        None,
        description="instead of pairs: folder, or URI, of a trained reward model, a Hugging Face sequence classifier "
        "with one label and its tokenizer, such as the `reward-model` of another run",
    )
    judge: JudgeConfig | None = Field(
        None, description="instead of both: a language model behind an OpenAI-compatible endpoint"
    )
    reads: Literal["response", "answer"] = Field(
        "response",
        description="what a reward model sees of a completion, in its pairs as in what it scores. response: all of it, "
        "as harmlessness needs; answer: what follows its thoughts, as helpfulness does",
    )
    base: Location | None = Field(
        None,
        description="model folder, or its URI, that the reward model starts from; default: the run's model before its "
        "cold start",
    )
    held_out: int = Field(
        64,
        ge=1,
        description="prompts whose pairs are held out: accuracy and margin are measured on them, and "
        "supervised.patience looks at their loss",
    )
    supervised: SftConfig = Field(
        default_factory=SftConfig, description="the reward model's optimizer and its schedule"
    )
    weight: float = Field(
        0.1,
        gt=0,
        description="weight of the part `preference` of the reward. Where an advantage is divided by its group's "
        "standard deviation, a group whose other parts are all equal learns from this part alone, whatever the weight",
    )
    clip: float = Field(
        3.0,
        gt=0,
        description="a score counts as far as it is from the mean score of its group, and at most so much (nats: the "
        "logarithm of the odds of being preferred; of a judge: points, summed over its criteria); two answers thus "
        "differ by 2 x weight x clip at most",
    )
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="what a reward model computes its scores in; its weights are held in float32"
    )
    wait_seconds: float = Field(
        3600.0,
        gt=0,
        description="longest wait of a scorer for the reward model to be trained, and of a verifier for a scorer, or "
        "for a judge that does not answer (s)",
    )

    @model_validator(mode="after")
    def _one_source(self) -> "PreferencesConfig":
        given = [name for name in ("pairs", "reward_model", "judge") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                "preferences need either pairs, to train a reward model, or reward_model, a trained one, or judge"
            )
        read = ("reads", "dtype")
        used = {"pairs": ("base", "held_out", "supervised", *read), "reward_model": read, "judge": ()}
        fields = type(self).model_fields
        idle = [
            name
            for name in used["pairs"]
            if name not in used[given[0]]
            and getattr(self, name) != fields[name].get_default(call_default_factory=True, validated_data={})
        ]
        if idle:
            raise ValueError(f"{given[0]} needs no training, so {' and '.join(idle)} would be ignored; leave out")
        return self


class DistillationConfig(Section):
    """On-policy distillation: a teacher scores every token that the student has sampled, in place of rewards."""

    teacher: Location = Field(
        description="folder, or URI, of the teacher: a causal language model of any size, with the student's tokenizer"
    )
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="what the teacher computes in; its weights are held in float32"
    )
    wait_seconds: float = Field(
        600.0, gt=0, description="longest wait of a verifier for a scorer that holds the teacher (s)"
    )


class MixConfig(Section):
    """Examples from elsewhere, such as general conversations, among the curated ones."""

    path: Location = Field(description="file with prompt (or messages) and response, JSON lines or Parquet (.parquet)")
    share: float | None = Field(
        None, gt=0, lt=1, description="so much of what is written is from the file, as far as it has enough (share)"
    )
    examples: int | None = Field(None, ge=1, description="instead of share: so many are from the file, at most")

    @model_validator(mode="after")
    def _one_size(self) -> "MixConfig":
        if (self.share is None) == (self.examples is None):
            raise ValueError("give either share, of what is written, or examples, a number")
        return self


class CurationConfig(Section):
    """Which sampled completions are kept; what DeepSeek-R1, section 2.3.3, keeps."""

    min_accuracy: float = Field(1.0, ge=0, le=1, description="keep what the verifier gives at least this accuracy")
    require_format: bool = Field(
        True,
        description="drop what is cut off at the token limit and, where rewards.format asks for one, what is not in it",
    )
    min_language: float = Field(
        0.95,
        ge=0,
        le=1,
        description="drop what has a smaller part `language`, where rewards.language asks for it (share of the words)",
    )
    max_paragraph_chars: int | None = Field(
        4000, ge=1, description="drop what has a longer paragraph in its reasoning (characters); null: keep it"
    )
    code_blocks: Literal["any", "closed", "none"] = Field(
        "closed",
        description="code blocks in the reasoning. closed: drop what has a fence that nothing closes, or an empty "
        "block; none: drop what has any block; any: keep all",
    )
    deduplicate: Literal["normalised", "exact"] = Field(
        "normalised",
        description="of responses to one prompt that are the same one is kept. exact: to the letter; normalised: but "
        "for case, white space and punctuation",
    )
    max_per_task: int | None = Field(4, ge=1, description="most responses to one prompt; null: all")
    mix: MixConfig | None = Field(None, description="examples from elsewhere that are mixed in")


#: What the file of curated completions may be called.
CURATED = ("curated.jsonl", "curated.parquet")


class SampleConfig(CurationConfig):
    """Rejection sampling: completions of training tasks at fixed weights, and what is kept of them."""

    tasks: int = Field(ge=1, description="training tasks, from the first one on")
    samples: int = Field(
        16,
        ge=1,
        le=4096,
        description="completions of each, sampled as generators.sampling says; all in samples-drawn.jsonl",
    )
    curated: Literal["curated.jsonl", "curated.parquet"] = Field(
        "curated.jsonl", description="the file in the run folder with what is kept: JSON lines or Parquet, by its name"
    )
