"""`summary.json`: the outcome of a run in a fixed shape that other programs rely on.

Keys are never renamed or removed. A value that does not exist (yet) is null; counters start at 0.
`RunSummary.model_json_schema()` is the contract in machine-readable form.
"""

import math
from collections.abc import Mapping
from statistics import median

from pydantic import BaseModel, ConfigDict, Field

from actors.events import EvaluationDone, RewardModelDone, SourceScores
from actors.report.health import warnings
from actors.report.state import RunState, middle

#: Phases that end a run.
ENDS = ("finished", "interrupted", "failed")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Estimates(_Part):
    """What tasks came to that were answered k times each; intervals are of 95 %."""

    pass_at_1: float | None = Field(None, description="share of right answers, averaged over all samples")
    pass_at_1_interval: tuple[float, float] | None = Field(None, description="confidence interval of pass_at_1")
    pass_at_k: float | None = Field(None, description="share of tasks with a right answer among k")
    pass_at_k_interval: tuple[float, float] | None = Field(None, description="confidence interval of pass_at_k")
    maj_at_k: float | None = Field(None, description="share of tasks whose most frequent answer is right")
    maj_at_k_interval: tuple[float, float] | None = Field(None, description="confidence interval of maj_at_k")
    n: int | None = Field(None, description="number of tasks that were scored")
    format: float | None = Field(None, description="share of responses in the asked format")
    language: float | None = Field(None, description="mean share of a reasoning's words in the asked language")
    mean_length: float | None = Field(None, description="mean length of a response (tokens)")


class Accuracy(Estimates):
    """The result of one evaluation."""

    k: int | None = Field(None, description="samples a task")
    pass_at: dict[int, float] = Field(default_factory=dict, description="pass@j by j: powers of two, and k")
    by_source: dict[str, Estimates] = Field(default_factory=dict, description="the same for each task source")
    left_out: dict[str, int] = Field(default_factory=dict, description="tasks that were not scored, by reason")
    missing: str | None = Field(None, description="why the evaluation has no result, where it was begun")


class SampleSummary(_Part):
    """Rejection sampling."""

    evaluation: Accuracy = Field(default_factory=Accuracy, description="of the training tasks that were sampled")
    sampled: int | None = Field(None, description="completions that were sampled")
    kept: int | None = Field(None, description="completions that were kept")
    tasks: int | None = Field(None, description="tasks that something was kept of")
    mixed: int | None = Field(None, description="examples from elsewhere that were mixed in")
    dropped: dict[str, int] = Field(default_factory=dict, description="completions that were dropped, by reason")


class HeldOut(_Part):
    """Held-out accuracy at both ends of the run."""

    before: Accuracy = Field(default_factory=Accuracy, description="before the first reinforcement step")
    after: Accuracy = Field(default_factory=Accuracy, description="after the last step")


class RewardModelSummary(_Part):
    """How good the reward model is that the run has trained."""

    accuracy: float | None = Field(None, description="share of the held-out pairs in the right order")
    margin: float | None = Field(None, description="mean score of the chosen answer over the rejected one's (nats)")
    n: int | None = Field(None, description="number of held-out pairs")


class Tokens(_Part):
    """Tokens of responses."""

    generated: int = Field(0, description="tokens the generators produced, including evaluations")
    trained: int = Field(0, description="tokens that entered an optimizer step")


class TokensPerSecond(_Part):
    """Means over the time in which the pools were observed (s), waiting included."""

    generation: float | None = Field(None, description="tokens generated per second")
    learning: float | None = Field(None, description="tokens trained per second")


class StalenessSummary(_Part):
    """Age of the trained tokens: learner version minus the version that sampled the token."""

    max: int | None = Field(None, description="oldest trained token (versions)")
    mean: float | None = Field(None, description="mean over all trained tokens (versions)")
    histogram: dict[int, int] = Field(default_factory=dict, description="trained tokens by age (versions)")


class BusyShare(_Part):
    """Share of the observed time a pool worked, averaged over its members."""

    generator: float | None = Field(None, description="share of the time at least one sequence was being generated")
    verifier: float | None = Field(None, description="share of the time answers were being checked")
    scorer: float | None = Field(None, description="share of the time a reward model was at work")
    learner: float | None = Field(None, description="share of the time a step was being computed")


class WeightSyncSummary(_Part):
    """Medians over all weight updates."""

    transfer_seconds: float | None = Field(None, description="time the weights travelled (s)")
    pause_seconds: float | None = Field(None, description="longest time a generator stood still (s)")
    bytes: int | None = Field(None, description="size of the weights, counted once (bytes)")


class GroupSummary(_Part):
    """Where every issued group is. issued = in_flight + trained + committed + Σ dropped."""

    issued: int = Field(0, description="groups whose task was leased by a generator")
    trained: int = Field(0, description="trained on, but in no durable checkpoint yet")
    committed: int = Field(0, description="trained on and in a durable checkpoint")
    dropped: dict[str, int] = Field(default_factory=dict, description="groups given up, by reason")
    in_flight: int = Field(0, description="being generated, verified, or waiting for the learner")


class WarningSummary(_Part):
    """A health warning that holds."""

    symptom: str = Field(description="what is wrong, see the runbook")
    text: str = Field(description="what was seen")
    fix: str = Field(description="what to do")


class RecoverySummary(_Part):
    """Faults of one kind that the run has recovered from."""

    role: str = Field(description="of the processes at fault")
    fault: str = Field(description="died, hung, silent or stuck")
    count: int = Field(description="recoveries")
    median_seconds: float = Field(description="from when a fault was seen until work flowed again (s)")
    max_seconds: float = Field(description="longest of them (s)")


class RunSummary(_Part):
    """The outcome of a run."""

    recipe: str = Field(description="name of the recipe")
    seed: int = Field(description="seed of the run")
    wall_seconds: float = Field(description="time since the run's start, over all resumes (s)")
    steps: int = Field(description="optimizer steps taken")
    held_out: HeldOut = Field(description="accuracy on held-out tasks")
    sampling: SampleSummary = Field(description="rejection sampling, where the run has done it")
    reward_model: RewardModelSummary = Field(description="the reward model, where the run has trained one")
    tokens: Tokens = Field(description="tokens of responses")
    tokens_per_second: TokensPerSecond = Field(description="throughput")
    staleness: StalenessSummary = Field(description="age of the trained tokens")
    busy_share: BusyShare = Field(description="how much of the time each pool worked")
    weight_sync: WeightSyncSummary = Field(description="cost of a weight update")
    logprob_difference_mean: float | None = Field(
        None, description="mean |logprob(engine) - logprob(learner)| on tokens of the current policy (nats)"
    )
    groups: GroupSummary = Field(description="conservation of groups")
    restarts: int = Field(description="processes that had to be replaced")
    warnings: list[WarningSummary] = Field(description="the health warnings that hold, gravest first")
    outcome: str = Field(description="running, finished, interrupted or failed")
    reason: str | None = Field(None, description="why it failed")
    recoveries: list[RecoverySummary] = Field(description="faults that the run has recovered from, by role and kind")


def summarise(state: RunState) -> RunSummary:
    """The summary of a run in its present state."""
    groups, bytes_ = state.groups, middle(state.sync_bytes)
    return RunSummary(
        recipe=state.info.recipe,
        seed=state.info.seed,
        wall_seconds=state.seconds,
        steps=state.step,
        held_out=HeldOut(before=_accuracy(state, "before"), after=_accuracy(state, "after")),
        sampling=_sample(state),
        reward_model=_reward_model(state.reward_model),
        tokens=Tokens(generated=round(state.generated), trained=state.trained_tokens),
        tokens_per_second=TokensPerSecond(generation=state.rate("generation"), learning=state.rate("learning")),
        staleness=_staleness(state.staleness),
        busy_share=BusyShare(**{role: state.busy_share(role) for role in BusyShare.model_fields}),
        weight_sync=WeightSyncSummary(
            transfer_seconds=middle(state.transfer),
            pause_seconds=middle(state.pause),
            bytes=None if bytes_ is None else round(bytes_),
        ),
        logprob_difference_mean=state.logprob_difference,
        groups=GroupSummary(
            issued=groups.issued,
            trained=groups.trained,
            committed=groups.committed,
            dropped=dict(groups.dropped),
            in_flight=groups.in_flight + groups.ready + groups.delivered,
        ),
        restarts=state.restarts,
        warnings=[WarningSummary(symptom=w.symptom, text=w.text, fix=w.fix) for w in warnings(state)],
        outcome=state.phase.name if state.phase.name in ENDS else "running",
        reason=state.phase.detail or None if state.phase.name == "failed" else None,
        recoveries=[
            RecoverySummary(
                role=role,
                fault=fault,
                count=len(seconds),
                median_seconds=median(seconds),
                max_seconds=max(seconds),
            )
            for (role, fault), seconds in sorted(state.recoveries.items())
        ],
    )


def to_json(summary: RunSummary) -> str:
    """The text of `summary.json`, in the order of the fields."""
    return summary.model_dump_json(indent=2) + "\n"


def _accuracy(state: RunState, name: str) -> Accuracy:
    if (done := state.evaluation(name)) is None:
        missing = state.missing_evaluations.get(name)
        return Accuracy(missing=missing.reason if missing else None)
    return _evaluated(done)


def _evaluated(done: EvaluationDone) -> Accuracy:
    return Accuracy(
        **_scores(done).model_dump(),
        k=done.k,
        pass_at={j: value for j, value in done.pass_at.items() if math.isfinite(value)},
        by_source={source: _scores(scores) for source, scores in done.by_source.items()},
        left_out=done.left_out,
    )


def _scores(done: SourceScores) -> Estimates:
    found = {name: getattr(done, name) for name in Estimates.model_fields}
    return Estimates(**{name: _finite(value) if isinstance(value, float) else value for name, value in found.items()})


def _sample(state: RunState) -> SampleSummary:
    evaluation = _evaluated(state.sampling) if state.sampling else Accuracy()
    if (done := state.curation) is None:
        return SampleSummary(evaluation=evaluation)
    counts = {"sampled": done.sampled, "kept": done.kept, "tasks": done.tasks, "mixed": done.mixed}
    return SampleSummary(evaluation=evaluation, **counts, dropped=done.dropped)


def _reward_model(done: RewardModelDone | None) -> RewardModelSummary:
    if done is None:
        return RewardModelSummary()
    return RewardModelSummary(accuracy=done.accuracy, margin=_finite(done.margin), n=done.held_out)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _staleness(counts: Mapping[int, int]) -> StalenessSummary:
    histogram = {age: counts[age] for age in sorted(counts) if counts[age]}
    tokens = sum(histogram.values())
    if not tokens:
        return StalenessSummary()
    mean = sum(age * count for age, count in histogram.items()) / tokens
    return StalenessSummary(max=max(histogram), mean=mean, histogram=histogram)
