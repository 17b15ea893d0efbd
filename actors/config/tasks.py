"""Where prompts come from, how they are formatted, and which of them are held out."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from actors.config.base import Location, Section

AnswerForm = Literal["tag", "boxed", "last_number"]
_ANSWER: Any = Field(
    "tag",
    description="where the answer stands in a response. tag: in `<answer>` (the r1_zero template asks for it; with "
    "other templates say so in `system` or in the prompts); boxed: in `\\boxed{}`, and a sentence that asks for it is "
    "added to every prompt; last_number: the last number counts where neither is present",
)


class Source(Section):
    """What all sources share."""

    weight: float = Field(1.0, gt=0, description="share of this source among all sources (relative)")
    preferences: bool = Field(
        True,
        description="whether answers to its tasks get the part `preference` of the reward, where the recipe has "
        "`preferences`; with false for all other sources it is the only one",
    )


class AdditionSource(Source):
    """Sums of two numbers with the same number of digits, with digit-by-digit traces for a cold start."""

    source: Literal["addition"]
    digits: int = Field(3, ge=1, le=9, description="digits of each summand")


class ReasoningGymSource(Source):
    """One family of the reasoning-gym package."""

    source: Literal["reasoning_gym"]
    family: str = Field(description="name of the family, for example chain_sum")
    size: int = Field(100_000, ge=1, description="number of problems generated before they repeat")
    options: dict[str, Any] = Field(
        default_factory=dict, description="options of the family, as reasoning-gym names them"
    )
    answer: AnswerForm = _ANSWER


class JsonlSource(Source):
    """A file with one task a line, or a row of Parquet: `prompt` or `messages`, `answer`, and optionally `verifier`."""

    source: Literal["jsonl"]
    path: Location = Field(description="the file, JSON lines or Parquet (.parquet), or its URI")
    verifier: str = Field(
        "math",
        description="verifier of the lines that name none. none: no rule decides, and the reward has no part "
        "`accuracy`; such tasks are trained on alone, since no accuracy can be measured on them",
    )
    answer: AnswerForm = _ANSWER


class Gsm8kSource(Source):
    """A file in GSM8K's form: `question`, and `answer` whose last line is `#### number`."""

    source: Literal["gsm8k"]
    path: Location = Field(description="the file, JSON lines or Parquet (.parquet), or its URI")
    verifier: str = Field("math", description="verifier that compares the answers")
    answer: AnswerForm = _ANSWER


class CodeSource(Source):
    """A file in the form of a set of programming problems; verified by the tests that stand in it."""

    source: Literal["human_eval", "mbpp", "apps", "livecodebench"] = Field(
        description="the set whose form the file has"
    )
    path: Location | None = Field(
        None, description="the file, with one problem a line; default, for human_eval alone: the package human-eval's"
    )

    @model_validator(mode="after")
    def _has_a_file(self) -> "CodeSource":
        if self.path is None and self.source != "human_eval":
            raise ValueError(f"source: {self.source} needs `path`, the file with its problems")
        return self


class GpqaSource(Source):
    """A file of GPQA: `Question`, `Correct Answer`, and `Incorrect Answer 1` to 3; CSV, JSON lines or Parquet."""

    source: Literal["gpqa"]
    path: Location = Field(description="the file, or its URI: .csv as it is published, JSON lines, or .parquet")
    verifier: str = Field("math", description="verifier that compares the letters")
    answer: Literal["tag", "boxed"] = Field("boxed", description="where the letter stands in a response, as for jsonl")


class DatasetSource(Source):
    """A data set of the Hugging Face hub; needs the network, or a warm cache."""

    source: Literal["datasets"]
    name: str = Field(description="name of the data set, for example openai/gsm8k")
    subset: str | None = Field(None, description="configuration of the data set")
    split: str = Field("train", description="split to read")
    prompt_field: str = Field("question", description="column that holds the prompt")
    answer_field: str = Field(
        "answer", description="column that holds the answer; what follows `####` counts, where present"
    )
    verifier: str = Field("math", description="verifier that compares the answers")
    answer: AnswerForm = _ANSWER


AnySource = Annotated[
    AdditionSource | ReasoningGymSource | JsonlSource | Gsm8kSource | CodeSource | GpqaSource | DatasetSource,
    Field(discriminator="source"),
]


class Shot(Section):
    """One worked example that precedes every prompt."""

    prompt: str = Field(description="what the user says")
    response: str = Field(description="what the assistant answers")


class CurriculumConfig(Section):
    """How often a training task comes again, by how often it was solved."""

    floor: float = Field(
        0.1,
        gt=0,
        le=1,
        description="a task that is solved always, or never, is drawn at this share of its turns at least; 1: no task "
        "is ever passed over",
    )
    half_life: float = Field(
        2.0, gt=0, description="verified groups of a task after which one counts half in its solve rate"
    )


class TasksConfig(Section):
    """The training and the held-out tasks of a run."""

    sources: list[AnySource] = Field(min_length=1, description="where tasks come from, mixed by weight")
    held_out: Annotated[int, Field(ge=1)] | Literal["all"] = Field(
        256, description="number of held-out tasks, never trained on; all: nothing is, which takes steps: 0"
    )
    development: int = Field(
        128,
        ge=0,
        description="number of further tasks held out for choosing when a cold start ends, never trained on either; at "
        "most a quarter of what a source has left beside its held-out tasks",
    )
    template: Literal["raw", "chat", "r1_zero"] = Field(
        "chat",
        description="raw: the bare prompt; chat: the tokenizer's chat template; r1_zero: the R1-Zero conversation",
    )
    system: str | None = Field(None, description="system message of the chat template")
    shots: list[Shot] = Field(
        default_factory=list, description="worked examples before every prompt (chat template only)"
    )
    max_prompt_tokens: int = Field(1024, ge=1, description="longer prompts are dropped as overlong (tokens)")

    curriculum: CurriculumConfig | None = Field(
        None, description="tasks that are solved always or never come again less often; default: all come equally often"
    )

    @model_validator(mode="after")
    def _only_a_chat_has_system_and_shots(self) -> "TasksConfig":
        if self.template != "chat" and (self.system is not None or self.shots):
            raise ValueError(f"`system` and `shots` need `template: chat`; the template is {self.template}")
        return self
