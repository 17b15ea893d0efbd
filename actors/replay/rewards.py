"""What the verdicts on training groups say of a step."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from actors.events import First
from actors.observability.metrics import BANDS
from actors.report.statistics import DIFFICULTY, SOURCE_LENGTH, SOURCE_REWARD

#: Sum and number of values, by the name of the statistic that is their mean.
Sums = dict[str, tuple[float, int]]


@dataclass(frozen=True, slots=True)
class Verified:
    """A training group got its rewards, one a completion; it may have been dropped for them.

    Attributes:
        source: label of the task source.
        rewards: of its completions.
        parts: of the rewards.
        observed: what verifiers saw in the completions.
        accuracy: mean of their accuracy; None where no rule decides about the task.
        tokens: of all its completions.
    """

    source: str
    rewards: tuple[float, ...]
    parts: tuple[Mapping[str, float], ...] = ()
    observed: Sums = field(default_factory=dict)
    accuracy: float | None = 0.0
    tokens: int = 0

    @property
    def band(self) -> str | None:
        return None if self.accuracy is None else band(self.accuracy)


def band(accuracy: float) -> str:
    """How often a task is solved: never, rarely (up to a quarter), sometimes, mostly (from three quarters), always."""
    never, rarely, sometimes, mostly, always = BANDS
    if accuracy <= 0:
        return never
    if accuracy >= 1:
        return always
    return rarely if accuracy <= 0.25 else mostly if accuracy >= 0.75 else sometimes


def sums_of(observed: Iterable[Mapping[str, float]]) -> Sums:
    """What was seen in each completion, summed by name; not every name is there for every one."""
    return _added({name: (value, 1) for name, value in values.items()} for values in observed)


def _added(sums: Iterable[Mapping[str, tuple[float, int]]]) -> Sums:
    found: Sums = {}
    for name, (value, count) in (each for values in sums for each in values.items()):
        total, before = found.get(name, (0.0, 0))
        found[name] = total + value, before + count
    return found


@dataclass(slots=True)
class RewardStatistics:
    """Collects the groups that were verified since the last step, and keeps what they say of each step until that is
    committed: a learner that was replaced takes steps again.
    """

    groups: list[Verified] = field(default_factory=list)
    sources: set[str] = field(default_factory=set)
    #: What was seen in this run already.
    firsts: set[First] = field(default_factory=set)
    #: The first version whose step nobody was told of.
    untold: int = 0
    _steps: dict[int, dict[str, Any]] = field(default_factory=dict)

    def add(self, source: str, rewards: Sequence[float], observed: Sums, accuracy: float | None, tokens: int) -> None:
        """A group got its rewards; see `Verified`."""
        self.groups.append(Verified(source, tuple(rewards), observed=observed, accuracy=accuracy, tokens=tokens))

    def new_firsts(self, seen: Sequence[First]) -> list[First]:
        """What of that was never seen before."""
        new = [each for each in seen if each not in self.firsts]
        self.firsts.update(new)
        return new

    def taken(self, version: int) -> bool:
        """The batch of `version` goes to the learner. If its step was taken already, that is to be told again: the
        learner was replaced. Returns whether that is so."""
        again = version < self.untold
        self.untold = min(self.untold, version)
        return again

    def step(self, version: int, others: Sequence[Mapping[str, Any]] = ()) -> dict[str, float] | None:
        """What the groups verified before the step of `version` say of it; those dropped for equal rewards count here.
        None where it was told already, to a learner that asks again because the answer was lost. `others` are the
        tallies of the other shards.
        """
        if version < self.untold:
            return None
        self.untold = version + 1
        if version not in self._steps:
            self._steps[version] = self._summary([_tally(self._take()), *others])
        return self._steps[version]

    def tally(self, version: int) -> dict[str, Any]:
        """The same for the shard of the replay that tells it: what the groups of this one add, see `_summary`."""
        self.untold = max(self.untold, version + 1)
        if version not in self._steps:
            self._steps[version] = _tally(self._take())
        return self._steps[version]

    def commit(self, version: int) -> None:
        """No step below `version` will be taken again."""
        self._steps = {step: said for step, said in self._steps.items() if step >= version}

    def _take(self) -> list[Verified]:
        groups, self.groups = self.groups, []
        return groups

    def _summary(self, tallies: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        groups = sum(tally["groups"] for tally in tallies)
        if not groups:
            return {}
        sums = _added(tally["rewards"] for tally in tallies)
        found = {"reward": _mean(sums.values()), "mixed_groups": sum(tally["mixed"] for tally in tallies) / groups}
        observed = _added(tally["observed"] for tally in tallies)
        found |= {name: total / count for name, (total, count) in sorted(observed.items())}
        bands = {name: sum(tally["bands"][name] for tally in tallies) for name in BANDS}
        if decided := sum(bands.values()):  # of the tasks that a rule decides about
            found |= {f"{DIFFICULTY}{name}": count / decided for name, count in bands.items()}
        self.sources |= sums.keys()
        if len(self.sources) > 1:  # of a single source it would be the same again
            lengths = _added(tally["lengths"] for tally in tallies)
            for prefix, of_source in ((SOURCE_REWARD, sums), (SOURCE_LENGTH, lengths)):
                found |= {f"{prefix}{source}": _mean([of_source[source]]) for source in sorted(of_source)}
        return found

    def state(self) -> dict[str, Any]:
        """Everything, as MessagePack can hold it; `restored` takes it back."""
        return {
            "groups": [
                [each.source, list(each.rewards), each.observed, each.accuracy, each.tokens] for each in self.groups
            ],
            "sources": sorted(self.sources),
            "firsts": sorted(self.firsts),
            "untold": self.untold,
            "steps": self._steps,
        }

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> "RewardStatistics":
        groups = [
            Verified(source, tuple(rewards), observed=observed, accuracy=accuracy, tokens=tokens)
            for source, rewards, observed, accuracy, tokens in state["groups"]
        ]
        firsts: set[First] = set(state["firsts"])
        return cls(groups, set(state["sources"]), firsts, state["untold"], dict(state["steps"]))


def _tally(groups: Sequence[Verified]) -> dict[str, Any]:
    """What can be added up over shards, as `messages.Tally` has it."""
    bands = Counter(group.band for group in groups if group.band is not None)
    return {
        "groups": len(groups),
        "mixed": sum(len(set(group.rewards)) > 1 for group in groups),
        "rewards": _added({group.source: (sum(group.rewards), len(group.rewards))} for group in groups),
        "lengths": _added({group.source: (float(group.tokens), len(group.rewards))} for group in groups),
        "observed": _added(group.observed for group in groups),
        "bands": {name: bands[name] for name in BANDS},
    }


def _mean(sums: Iterable[tuple[float, int]]) -> float:
    totals, counts = zip(*sums, strict=True)
    return float(sum(totals) / sum(counts))
