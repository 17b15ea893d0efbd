"""Everything display, report and summary need to know about a run: a fold of its events in bounded memory.

No clock, no files. The same events always give the same state, so a resumed run reads its own `metrics.jsonl` back and
continues as if it had never stopped.
"""

import threading
from collections import Counter, defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from math import isfinite, nan
from pathlib import Path
from statistics import median
from typing import Literal, assert_never

from actors.config.recipe import TrackerName
from actors.events import (
    SAMPLE,
    CurationDone,
    EvaluationDone,
    EvaluationMissing,
    Event,
    First,
    FirstSeen,
    GroupCounters,
    Phase,
    Recovered,
    Restart,
    RewardModelDone,
    RolloutSample,
    StepDone,
    Tick,
    Unresponsive,
    WeightSync,
    WriteFailed,
    merge_ticks,
)
from actors.report import statistics as names
from actors.report.series import Series

IDLE_SHARE = 0.05  # a pool that worked less than this share of an interval counts as idle
RATE_SECONDS = 30.0  # what the screen's tokens a second are averaged over
REWINDABLE_STEPS = 1000  # more than any run takes between two checkpoints
FIRST_SAMPLES = 4
LAST_SAMPLES = 8
KEPT_EVALUATIONS = 512
KEPT_RESTARTS = 50
#: Drops that say nothing of the tasks.
NOBODYS_FAULT = ("worker_lost", "returned")
KEPT_RECOVERIES = 1000  # of a role and kind of fault: enough for a median


@dataclass(frozen=True)
class RunInfo:
    """What is known about a run before it starts.

    Attributes:
        recipe: name of the recipe.
        seed: seed of the run.
        folder: the run folder.
        total_steps: optimizer steps that the run is to take.
        max_staleness: bound on the age of a trained token (versions).
        groups_per_batch: groups of an optimizer step.
        configuration: the resolved recipe as YAML, for the report.
        trackers: that get its numbers beside its own files.
    """

    recipe: str
    seed: int
    folder: Path
    total_steps: int
    max_staleness: int
    groups_per_batch: int
    configuration: str = ""
    trackers: tuple[TrackerName, ...] = ()


class RunState:
    """The state of a run after the events so far."""

    def __init__(self, info: RunInfo) -> None:
        self.info = info
        #: Held while an event is folded in; whoever looks from another thread holds it meanwhile.
        self.lock = threading.RLock()
        self.seconds = 0.0
        self.phase = Phase(seconds=0.0, name="starting")
        self.reward_model: RewardModelDone | None = None
        self.step = 0
        self.version = 0
        self.last_step: StepDone | None = None
        self.statistics: dict[str, Series] = {}
        self.not_finite = 0
        self.step_seconds = Series()
        self.staleness: Counter[int] = Counter()
        self._settled_staleness: Counter[int] = Counter()
        self.staleness_mean = Series()
        self.evaluations: list[EvaluationDone] = []
        #: Rejection sampling: of training tasks, and what was kept.
        self.sampling: EvaluationDone | None = None
        self.curation: CurationDone | None = None
        self.missing_evaluations: dict[str, EvaluationMissing] = {}
        self.transfer = Series()
        self.pause = Series()
        self.sync_total = Series()
        self.sync_bytes = Series()
        self.sync_members = 0
        self.unresponsive: dict[str, Unresponsive] = {}
        self.tick: Tick | None = None
        self.worked_at = 0.0
        self._at_last_batch = GroupCounters()
        self._recent_ticks: deque[Tick] = deque()
        self.tick_seconds = 0.0
        self.generated = 0.0
        #: What of it was generated before the run resumed last, by processes that are gone.
        self.generated_before = 0.0
        self.busy_seconds: defaultdict[str, float] = defaultdict(float)
        self.busy: dict[str, Series] = {}
        self.queues: dict[str, Series] = {}
        self.rates: dict[str, Series] = {}
        self.restarts = 0
        self.last_restarts: deque[Restart] = deque(maxlen=KEPT_RESTARTS)
        self.last_recoveries: deque[Recovered] = deque(maxlen=KEPT_RESTARTS)
        #: Seconds of the latest recoveries, by role and kind of fault.
        self.recoveries: defaultdict[tuple[str, str], deque[float]] = defaultdict(lambda: deque(maxlen=KEPT_RECOVERIES))
        self.unwritten: dict[str, str] = {}
        self.first_samples: list[RolloutSample] = []
        self.last_samples: deque[RolloutSample] = deque(maxlen=LAST_SAMPLES)
        self.firsts: dict[First, FirstSeen] = {}
        self._difference_sum = self._difference_tokens = 0.0
        self._recent_steps: deque[StepDone] = deque(maxlen=REWINDABLE_STEPS)

    def fold(self, event: Event) -> None:
        """Take one event in."""
        with self.lock:
            self._fold(event)

    def _fold(self, event: Event) -> None:
        self.seconds = max(self.seconds, event.seconds)
        match event:
            case Phase():
                self.phase = event
                self.worked_at = event.seconds
            case RewardModelDone():
                self.reward_model = event
            case StepDone():
                self._fold_step(event)
            case EvaluationDone(name=name) if name == SAMPLE:
                self.sampling = event
            case EvaluationDone():
                self._fold_evaluation(event)
            case CurationDone():
                self.curation = event
            case EvaluationMissing():
                self.missing_evaluations[event.name] = event
            case WeightSync():
                self._fold_sync(event)
            case Tick():
                self._fold_tick(event)
            case Restart():
                self.restarts += 1
                self.last_restarts.append(event)
                self.unresponsive.pop(event.member, None)
            case Recovered():
                self.last_recoveries.append(event)
                self.recoveries[event.role, event.fault].append(event.recovery_seconds)
            case WriteFailed():
                self.unwritten.pop(event.what, None)
                if event.reason:
                    self.unwritten[event.what] = event.reason
            case Unresponsive():
                self.unresponsive.pop(event.member, None)
                if event.state != "back":
                    self.unresponsive[event.member] = event
            case RolloutSample():
                if len(self.first_samples) < FIRST_SAMPLES:
                    self.first_samples.append(event)
                else:
                    self.last_samples.append(event)
            case FirstSeen():
                self.firsts.setdefault(event.what, event)
            case _:
                assert_never(event)

    def _fold_step(self, event: StepDone) -> None:
        if event.step <= self.step:
            self.rewind(event.step - 1)
        self.step, self.version, self.last_step = event.step, event.version, event
        self._recent_steps.append(event)
        self._count_difference(event, 1)
        nothing_compared = event.statistics.get(names.LOGPROB_DIFFERENCE_TOKENS) == 0
        for name, value in event.statistics.items():
            if nothing_compared and name.startswith("logprob_difference"):
                continue  # a mean over no tokens is reported as 0, which would look like perfect agreement
            self.statistics.setdefault(name, Series()).add(event.step, event.seconds, value)
        self.not_finite += _not_finite(event)
        self.step_seconds.add(event.step, event.seconds, event.step_seconds)
        self.staleness.update(event.staleness)
        tokens = sum(event.staleness.values())
        if tokens:
            mean = sum(age * count for age, count in event.staleness.items()) / tokens
            self.staleness_mean.add(event.step, event.seconds, mean)

    def rewind(self, step: int) -> None:
        """Undo every step after `step`: the learner resumes from the checkpoint of `step`."""
        lost = None
        while self._recent_steps and self._recent_steps[-1].step > step:
            lost = self._recent_steps.pop()
            self.staleness.subtract(lost.staleness)
            self.not_finite -= _not_finite(lost)
            self._count_difference(lost, -1)
        if lost is None:
            return
        self.staleness = +self.staleness
        self.last_step = self._recent_steps[-1] if self._recent_steps else None
        self.step = step
        self.version = self.last_step.version if self.last_step else max(0, lost.version - 1)
        for series in (*self.statistics.values(), self.step_seconds, self.staleness_mean):
            series.cut(lost.step)
        for series in (self.transfer, self.pause, self.sync_total, self.sync_bytes):
            series.cut(lost.version)
        self.evaluations = [done for done in self.evaluations if done.version < lost.version]

    def resumed(self, step: int) -> None:
        """The run resumes at `step`, with other processes than before: later steps are undone; earlier ones may
        have had another bound on staleness, and what could not be written then can perhaps be now.
        """
        self.rewind(step)
        self.unresponsive.clear()
        self._settled_staleness = self.staleness.copy()
        self.generated_before = self.generated
        self.unwritten.clear()

    @property
    def oldest_trained(self) -> int:
        """Age of the oldest token trained on since the run started or resumed (versions)."""
        return max(self.staleness - self._settled_staleness, default=0)

    def _count_difference(self, event: StepDone, sign: int) -> None:
        total, tokens = _difference(event)
        self._difference_sum += sign * total
        self._difference_tokens += sign * tokens

    def _fold_evaluation(self, event: EvaluationDone) -> None:
        self.evaluations = [done for done in self.evaluations if done.name != event.name]
        if len(self.evaluations) == KEPT_EVALUATIONS:
            self.evaluations = [self.evaluations[0], *islice(self.evaluations, 1, None, 2)]
        self.evaluations.append(event)

    def _fold_sync(self, event: WeightSync) -> None:
        self.sync_members = event.members
        self.transfer.add(event.version, event.seconds, event.transfer_seconds)
        self.pause.add(event.version, event.seconds, event.pause_seconds)
        self.sync_total.add(event.version, event.seconds, event.total_seconds)
        self.sync_bytes.add(event.version, event.seconds, event.bytes)

    def _fold_tick(self, event: Tick) -> None:
        self.tick = event
        self._recent_ticks.append(event)
        while event.seconds - self._recent_ticks[0].seconds > RATE_SECONDS:
            self._recent_ticks.popleft()
        self.tick_seconds += event.interval_seconds
        if any(share >= IDLE_SHARE for share in event.busy.values()) or event.tokens_per_second.get("generation"):
            self.worked_at = event.seconds
        groups, last = event.groups, self._at_last_batch
        if _in_batches(groups) != _in_batches(last) or groups.ready >= self.info.groups_per_batch:
            self._at_last_batch = groups
        self.generated += event.tokens_per_second.get("generation", 0.0) * event.interval_seconds
        for role, share in event.busy.items():
            self.busy_seconds[role] += share * event.interval_seconds
            self.busy.setdefault(role, Series()).add(self.step, event.seconds, share)
        for name, depth in event.queues.items():
            self.queues.setdefault(name, Series()).add(self.step, event.seconds, depth)
        for name, rate in event.tokens_per_second.items():
            self.rates.setdefault(name, Series()).add(self.step, event.seconds, rate)

    @property
    def trained_tokens(self) -> int:
        """Tokens of the responses that were trained on; a step that was lost and taken again counts once."""
        return sum(self.staleness.values())

    @property
    def logprob_difference(self) -> float | None:
        """Mean |logprob(engine) - logprob(learner)| over the tokens of the whole run that could be compared (nats)."""
        return self._difference_sum / self._difference_tokens if self._difference_tokens > 0 else None

    @property
    def groups(self) -> GroupCounters:
        """The ledger's counters as last reported."""
        return self.tick.groups if self.tick else GroupCounters()

    @property
    def refusals(self) -> Mapping[str, str]:
        """What was said of the latest group refused or not verified, by reason."""
        return self.tick.refusals if self.tick else {}

    @property
    def fruitless(self) -> dict[str, int]:
        """Groups dropped since a batch came together last, by reason; those that were lost with a worker aside."""
        before = self._at_last_batch.dropped
        since = {reason: count - before.get(reason, 0) for reason, count in self.groups.dropped.items()}
        return {reason: count for reason, count in since.items() if count > 0 and reason not in NOBODYS_FAULT}

    @property
    def samples(self) -> list[RolloutSample]:
        """A few of the first and of the latest rollouts, oldest first."""
        return [*self.first_samples, *self.last_samples]

    def evaluation(self, name: str) -> EvaluationDone | None:
        """The evaluation called `name`, if it took place."""
        return next((done for done in self.evaluations if done.name == name), None)

    def busy_share(self, role: str) -> float | None:
        """Share of the observed time that `role` worked."""
        if role not in self.busy_seconds or not self.tick_seconds:
            return None
        return self.busy_seconds[role] / self.tick_seconds

    def rate(self, kind: str) -> float | None:
        """Tokens a second over the observed time, for `generation` or `learning`."""
        if not self.tick_seconds:
            return None
        return (self.generated if kind == "generation" else self.trained_tokens) / self.tick_seconds

    def recent_rate(self, kind: Literal["generation", "learning"]) -> float | None:
        """Tokens a second over the last half minute: groups and batches come in lumps, of which a tick sees few."""
        return merge_ticks(list(self._recent_ticks)).tokens_per_second.get(kind) if self._recent_ticks else None


def middle(series: Series) -> float | None:
    """Median of a series' points; None if it is empty."""
    return median(point.value for point in series) if len(series) else None


def _in_batches(groups: GroupCounters) -> int:
    return groups.delivered + groups.trained + groups.committed


def _not_finite(event: StepDone) -> int:
    skipped = event.statistics.get(names.NON_FINITE, 0.0) > 0
    return int(skipped or not all(map(isfinite, event.statistics.values())))


def _difference(event: StepDone) -> tuple[float, float]:
    """Sum of |logprob difference| over the compared tokens, and their number (1 where it is not reported)."""
    mean = event.statistics.get(names.LOGPROB_DIFFERENCE, nan)
    tokens = event.statistics.get(names.LOGPROB_DIFFERENCE_TOKENS, 1.0)
    return (mean * tokens, tokens) if isfinite(mean) and isfinite(tokens) else (0.0, 0.0)
