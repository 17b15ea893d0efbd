"""What the rewards of training groups say of a step."""

from collections.abc import Mapping, Sequence
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
    _steps: dict[int, dict[str, float]] = field(default_factory=dict)

    def add(self, source: str, rewards: Sequence[float]) -> None:
        """A group got its rewards."""
        self.groups.append(Verified(source, tuple(rewards)))

    def taken(self, version: int) -> bool:
        """The batch of `version` goes to the learner. If its step was taken already, that is to be told again: the
        learner was replaced. Returns whether that is so."""
        again = version < self.untold
        self.untold = min(self.untold, version)
        return again

    def step(self, version: int) -> dict[str, float] | None:
        """What the groups verified before the step of `version` say of it; those dropped for equal rewards count here.
        None where it was told already, to a learner that asks again because the answer was lost.
        """
        if version < self.untold:
            return None
        self.untold = version + 1
        if version not in self._steps:
            self._steps[version] = self._summary()
        return self._steps[version]

    def commit(self, version: int) -> None:
        """No step below `version` will be taken again."""
        self._steps = {step: said for step, said in self._steps.items() if step >= version}

    def _summary(self) -> dict[str, float]:
        groups, self.groups = self.groups, []
        if not groups:
            return {}
        found = {
            "reward": _mean(groups),
            "mixed_groups": sum(len(set(group.rewards)) > 1 for group in groups) / len(groups),
        }
        self.sources.update(group.source for group in groups)
        if len(self.sources) > 1:  # of a single source it would be the same again
            for source in sorted({group.source for group in groups}):
                found[f"{SOURCE_REWARD}{source}"] = _mean([g for g in groups if g.source == source])
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


def _mean(groups: Sequence[Verified]) -> float:
    rewards = [reward for group in groups for reward in group.rewards]
    return sum(rewards) / len(rewards)
