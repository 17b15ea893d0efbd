"""What the rewards of training groups say of a step."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from actors.report.statistics import SOURCE_REWARD


@dataclass(frozen=True, slots=True)
class Verified:
    """A training group got its rewards, one a completion; it may have been dropped for them."""

    source: str
    rewards: tuple[float, ...]


@dataclass(slots=True)
class RewardStatistics:
    """Collects the groups that were verified since the last step."""

    groups: list[Verified] = field(default_factory=list)
    sources: set[str] = field(default_factory=set)

    def take(self) -> dict[str, float]:
        """What the groups since the last call say; those dropped for equal rewards count here."""
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


def _mean(groups: Sequence[Verified]) -> float:
    rewards = [reward for group in groups for reward in group.rewards]
    return sum(rewards) / len(rewards)
