"""The events a run consists of: the one vocabulary of those who produce, carry, record and show what happened.

Whatever happens is built as an object of this module where it happens, and is validated again wherever it comes off the
wire. Every event carries `seconds`, the time since the run's start (a resumed run counts on from where it stopped):
producers leave it at 0, and the controller, which alone knows when the run began, stamps it. An event is one line of
JSON in `metrics.jsonl` (samples: in `samples.jsonl`), told apart by `kind`. JSON knows no NaN: a number that is not
finite is written as null and read back as NaN.
"""

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter


def _null_is_nan(value: Any) -> Any:
    return math.nan if value is None else value


def _share(value: Any) -> Any:
    """Clip to [0, 1]: two clocks that disagree by a microsecond must not end a run."""
    return min(1.0, max(0.0, value)) if isinstance(value, (int, float)) and math.isfinite(value) else 0.0


def _encodable(value: Any) -> Any:
    """Replace lone surrogates, which a model's output may hold and no file can."""
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else value


Number = Annotated[float, Field(allow_inf_nan=True), BeforeValidator(_null_is_nan)]
Share = Annotated[float, BeforeValidator(_share)]
HostileText = Annotated[str, BeforeValidator(_encodable)]


class _Event(BaseModel):
    # A line may come from a newer version of the program: fields it does not know are passed over. What is no `Number`
    # must be finite, since it could not be read back.
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    seconds: float = Field(0.0, ge=0, description="time since the run's start (s); the controller stamps it")
    number: int = Field(0, ge=0, description="on the board of the replay; 0: it is the controller's own")


class Phase(_Event):
    """The run entered a phase. `finished`, `interrupted` and `failed` end it."""

    kind: Literal["phase"] = "phase"
    name: str = Field(description="starting, cold start, evaluation, training, ending, finished, failed, …")
    detail: HostileText = Field("", description="what is being done, in a few words")


class RewardModelDone(_Event):
    """A reward model was trained on preferences and is in the run folder."""

    kind: Literal["reward_model"] = "reward_model"
    steps: int = Field(ge=1, description="optimizer steps")
    pairs: int = Field(ge=1, description="pairs it was trained on")
    skipped: int = Field(0, ge=0, description="pairs that were longer than it reads")
    held_out: int = Field(ge=1, description="pairs held out, on other prompts, which the reward model is measured on")
    accuracy: Share = Field(description="share of the pairs whose chosen answer has the higher score")
    margin: Number = Field(description="mean score of the chosen answer over that of the rejected one (nats)")
    loss: Number = Field(description="mean loss (nats a pair); 0.693 is chance")

    @property
    def is_chance(self) -> bool:
        """Whether the accuracy is at chance: within two standard errors of one half."""
        return self.accuracy <= 0.5 + 2 * math.sqrt(0.25 / self.held_out)


class StepDone(_Event):
    """An optimizer step was taken. A step that is taken again after a resume replaces the earlier one."""

    kind: Literal["step"] = "step"
    step: int = Field(ge=1, description="number of the step, counted from 1")
    version: int = Field(ge=0, description="policy version that this step produced")
    statistics: dict[str, Number] = Field(description="see actors.report.statistics for the known names")
    staleness: dict[int, int] = Field(description="trained tokens by how many versions old they were")
    step_seconds: float = Field(ge=0, description="time the step took, without waiting for its batch (s)")


class SourceScores(BaseModel):
    """What tasks came to that were answered k times each. Intervals are of 95 % (`actors.replay.accuracy.interval`)."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    n: int = Field(ge=1, description="number of tasks that were scored")
    pass_at_1: Number = Field(description="share of right answers, averaged over all samples")
    pass_at_1_interval: tuple[Number, Number] | None = Field(None, description="confidence interval of pass_at_1")
    pass_at_k: Number | None = Field(None, description="share of tasks with a right answer among k")
    pass_at_k_interval: tuple[Number, Number] | None = Field(None, description="confidence interval of pass_at_k")
    maj_at_k: Number | None = Field(None, description="share of tasks whose most frequent answer is right")
    maj_at_k_interval: tuple[Number, Number] | None = Field(None, description="confidence interval of maj_at_k")
    format: Number | None = Field(None, description="share of responses in the asked format")
    language: Number | None = Field(None, description="mean share of a reasoning's words in the asked language")
    mean_length: Number | None = Field(None, description="mean length of a response (tokens)")


#: What the evaluation is called that is a rejection sampling: of training tasks.
SAMPLE = "sample"


class EvaluationDone(_Event, SourceScores):
    """The held-out tasks were answered and scored, or, by rejection sampling, training tasks."""

    kind: Literal["evaluation"] = "evaluation"
    version: int = Field(ge=0, description="policy version the evaluation stands for")
    name: str = Field(description="before, step N, or after; sample: it is of training tasks")
    k: int = Field(1, ge=1, description="samples a task")
    left_out: dict[str, int] = Field(default_factory=dict, description="tasks that were not scored, by reason")
    pass_at: dict[int, Number] = Field(default_factory=dict, description="pass@j by j: powers of two, and k")
    by_source: dict[str, SourceScores] = Field(default_factory=dict, description="the same for each task source")
    version_min: int = Field(ge=0, description="oldest policy version of any token")
    version_max: int = Field(ge=0, description="newest policy version of any token")


class EvaluationMissing(_Event):
    """An evaluation has no result, and the run went on without."""

    kind: Literal["evaluation_missing"] = "evaluation_missing"
    version: int = Field(ge=0, description="policy version the evaluation would have stood for")
    name: str = Field(description="before, step N, or after")
    reason: HostileText = Field(description="why there is none")


class CurationDone(_Event):
    """Sampled completions were curated into a file of examples."""

    kind: Literal["curation"] = "curation"
    version: int = Field(ge=0, description="policy version that the completions are of")
    sampled: int = Field(ge=0, description="completions that were sampled")
    kept: int = Field(ge=0, description="completions that were kept")
    tasks: int = Field(ge=0, description="tasks that something was kept of")
    mixed: int = Field(0, ge=0, description="examples from elsewhere that were mixed in")
    dropped: dict[str, int] = Field(default_factory=dict, description="completions that were dropped, by reason")


class WeightSync(_Event):
    """A policy version reached the generators."""

    kind: Literal["weight_sync"] = "weight_sync"
    version: int = Field(ge=0, description="the version")
    members: int = Field(ge=0, description="generators that took it")
    bytes: int = Field(ge=0, description="size of the weights, counted once (bytes)")
    transfer_seconds: float = Field(ge=0, description="time the weights travelled (s)")
    pause_seconds: float = Field(ge=0, description="longest time any generator stood still for it (s)")
    total_seconds: float = Field(ge=0, description="from the request until the last generator went on (s)")


class Restart(_Event):
    """A process of the run was replaced."""

    kind: Literal["restart"] = "restart"
    role: str = Field(description="generator, verifier, learner, replay, controller")
    member: str = Field(description="name of the process")
    reason: HostileText = Field(description="why it was replaced")


class Recovered(_Event):
    """Work flows again after a fault."""

    kind: Literal["recovered"] = "recovered"
    role: str = Field(description="generator, verifier, learner, replay, controller")
    member: str = Field(description="name of the process that was at fault; another one may have its place now")
    fault: str = Field(description="died: it ended; hung: it was killed; silent, stuck: it got on by itself")
    recovery_seconds: float = Field(ge=0, description="from when the fault was seen until work flowed again (s)")


#: What of `WriteFailed` stands still, with the whole run, until it can be written.
JOURNAL = "the journal of the replay"


#: What of `WriteFailed` is on the run's own disk alone until it can be written.
MIRROR = "the mirror of the run"


class WriteFailed(_Event):
    """Something that a run keeps could not be written, or, once it is written again, can be."""

    kind: Literal["write_failed"] = "write_failed"
    what: str = Field(description="what could not be written: checkpoints, metrics.jsonl, …")
    reason: str = Field(description="what the operating system said; empty: it is written again")


class Unresponsive(_Event):
    """A process stopped working without having ended, or is back.

    silent: it reports no more; stuck: it reports, and gets nowhere; back: neither any more; lost: it died before it had
    come up, and its place is empty until it is tried again.
    """

    kind: Literal["unresponsive"] = "unresponsive"
    role: str = Field(description="generator, verifier, learner, replay")
    member: str = Field(description="name of the process")
    state: Literal["silent", "stuck", "back", "lost"] = Field(description="what it is now")
    detail: str = Field(description="what was seen, in a few words")


class GroupCounters(BaseModel):
    """The ledger's states. issued = in_flight + ready + delivered + trained + committed + Σ dropped."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    issued: int = Field(0, ge=0, description="groups whose task was leased")
    in_flight: int = Field(0, ge=0, description="being generated or verified")
    ready: int = Field(0, ge=0, description="verified, waiting for the learner")
    delivered: int = Field(0, ge=0, description="delivered to the learner, not trained yet")
    trained: int = Field(0, ge=0, description="trained, but in no durable checkpoint yet")
    committed: int = Field(0, ge=0, description="trained and in a durable checkpoint")
    dropped: dict[str, int] = Field(default_factory=dict, description="groups given up, by reason")


class Tick(_Event):
    """The state of the pools, taken at a regular interval."""

    kind: Literal["tick"] = "tick"
    interval_seconds: float = Field(gt=0, description="time this tick covers (s)")
    queues: dict[str, int] = Field(default_factory=dict, description="depth of each queue (groups)")
    busy: dict[str, Share] = Field(default_factory=dict, description="share of the interval a role worked")
    waits: dict[str, str] = Field(default_factory=dict, description="what a role waits for; absent while it works")
    tokens_per_second: dict[Literal["generation", "learning"], float] = Field(
        default_factory=dict, description="tokens generated and tokens trained in the interval, per second"
    )
    groups: GroupCounters = Field(default_factory=GroupCounters, description="the ledger's counters")
    refusals: dict[str, HostileText] = Field(
        default_factory=dict, description="what was said last of groups that were dropped or not verified, by reason"
    )


class RolloutSample(_Event):
    """One rollout, kept for people to read."""

    kind: Literal["sample"] = "sample"
    task_key: HostileText = Field(description="key of the task")
    prompt: HostileText = Field(description="the prompt as text")
    response: HostileText = Field(description="what the model wrote")
    reward: Number = Field(description="reward of the response")
    parts: dict[str, Number] = Field(default_factory=dict, description="parts of the reward")
    version_min: int = Field(ge=0, description="policy version of the oldest token")
    version_max: int = Field(ge=0, description="policy version of the newest token")
    spans: list[tuple[int, int]] = Field(
        default_factory=list, description="policy version and tokens of each stretch of the response, in order"
    )
    truncated: bool = Field(description="ended by the token limit")
    verdict_status: str = Field(description="the verifier's status: ok, wrong, infra_error, …")
    source: HostileText = Field("", description="label of the task source that the task is from")
    reflections: list[tuple[int, int]] = Field(
        default_factory=list, description="where words of reflection stand in the response (characters)"
    )


#: What a rollout may be the first of its run to show: reflection, or that with a reward above the mean of its group.
First = Literal["reflection", "rewarded reflection"]


class FirstSeen(_Event):
    """A rollout shows something for the first time in its run."""

    kind: Literal["first"] = "first"
    what: First = Field(description="what it shows")
    step: int = Field(ge=1, description="the step whose statistics count it")
    sample: RolloutSample = Field(description="the rollout")


Event = (
    Phase
    | RewardModelDone
    | StepDone
    | EvaluationDone
    | EvaluationMissing
    | CurationDone
    | WeightSync
    | Restart
    | Recovered
    | Unresponsive
    | WriteFailed
    | Tick
    | RolloutSample
    | FirstSeen
)
#: An event as the field of a message: told apart by `kind`, so that an error names what is wrong with that one kind.
EventField = Annotated[Event, Field(discriminator="kind")]
EVENT: TypeAdapter[Event] = TypeAdapter(EventField)


def stamped(event: Event, seconds: float) -> Event:
    """The event with the time at which it happened.

    Args:
        seconds: time since the run's start (s).
    """
    return event.model_copy(update={"seconds": seconds})


def merge_ticks(ticks: list[Tick]) -> Tick:
    """One tick for several in a row: shares and rates are means weighted by time, the rest is the last tick's.

    Raises:
        ValueError: if `ticks` is empty.
    """
    if not ticks:
        raise ValueError("there is no tick to merge")
    total = sum(tick.interval_seconds for tick in ticks)
    last = ticks[-1]

    def mean(values: list[tuple[float, float]]) -> float:
        return sum(value * weight for value, weight in values) / total

    roles = {role for tick in ticks for role in tick.busy}
    kinds = {kind for tick in ticks for kind in tick.tokens_per_second}
    return last.model_copy(
        update={
            "interval_seconds": total,
            "busy": {role: mean([(t.busy.get(role, 0.0), t.interval_seconds) for t in ticks]) for role in roles},
            "tokens_per_second": {
                kind: mean([(t.tokens_per_second.get(kind, 0.0), t.interval_seconds) for t in ticks]) for kind in kinds
            },
        }
    )
