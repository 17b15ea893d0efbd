"""What the rewards of training groups say of a step."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from actors.report.statistics import SOURCE_REWARD


@dataclass(frozen=True, slots=True)
class Verified:
    """A training group got its rewards, one a completion; it may have been dropped for them."""

    source: str
    rewards: tuple[float, ...]
    parts: tuple[Mapping[str, float], ...] = ()


@dataclass(slots=True)
class RewardStatistics:
    """Collects the groups that were verified since the last step, and keeps what they say of each step until that is
    committed: a learner that was replaced takes steps again.
    """

    groups: list[Verified] = field(default_factory=list)
    sources: set[str] = field(default_factory=set)
    #: The first version whose step nobody was told of.
    untold: int = 0
    _steps: dict[int, dict[str, Any]] = field(default_factory=dict)

    def add(self, source: str, rewards: Sequence[float]) -> None:
        """A group got its rewards."""
        self.groups.append(Verified(source, tuple(rewards)))

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
        sums: dict[str, tuple[float, int]] = {}
        for source, (total, count) in (item for tally in tallies for item in sorted(tally["rewards"].items())):
            before = sums.get(source, (0.0, 0))
            sums[source] = before[0] + total, before[1] + count
        found = {"reward": _mean(sums.values()), "mixed_groups": sum(tally["mixed"] for tally in tallies) / groups}
        self.sources |= sums.keys()
        if len(self.sources) > 1:  # of a single source it would be the same again
            found |= {f"{SOURCE_REWARD}{source}": _mean([sums[source]]) for source in sorted(sums)}
        return found

    def state(self) -> dict[str, Any]:
        """Everything, as MessagePack can hold it; `restored` takes it back."""
        return {
            "groups": [[group.source, list(group.rewards)] for group in self.groups],
            "sources": sorted(self.sources),
            "untold": self.untold,
            "steps": self._steps,
        }

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> "RewardStatistics":
        groups = [Verified(source, tuple(rewards)) for source, rewards in state["groups"]]
        return cls(groups, set(state["sources"]), state["untold"], dict(state["steps"]))


def _tally(groups: Sequence[Verified]) -> dict[str, Any]:
    """What can be added up over shards, as `messages.Tally` has it."""
    rewards: dict[str, list[float]] = {}
    for group in groups:
        rewards.setdefault(group.source, []).extend(group.rewards)
    return {
        "groups": len(groups),
        "mixed": sum(len(set(group.rewards)) > 1 for group in groups),
        "rewards": {source: (sum(own), len(own)) for source, own in rewards.items()},
    }


def _mean(sums: Iterable[tuple[float, int]]) -> float:
    totals, counts = zip(*sums, strict=True)
    return float(sum(totals) / sum(counts))
