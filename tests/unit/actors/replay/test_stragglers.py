"""The three rules for stragglers, on the ledger alone: what is trained, of what was drawn, in a world of long tails."""

import heapq
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pytest

from actors.observability.metrics import length_label
from actors.replay.ledger import Ledger
from actors.replay.limits import Reason, ReplayLimits

Rule = Literal["drop", "wait", "mask"]
STALENESS, BATCH, TASKS = 2, 8, 2400
#: Of the learner (s a step) and of a generator (tokens/s): a median completion takes a third of a step, and one in
#: thirty longer than the bound allows steps.
STEP_SECONDS, TOKENS_PER_SECOND, MEDIAN, SIGMA = 1.0, 900.0, 300, 1.15


@dataclass
class World:
    """Generators that always hold the learner's newest weights, and verifiers that take no time.

    A group is as long as its longest completion; its first token is of the version at its lease, its last token of the
    version at its end.
    """

    rule: Rule
    seed: int = 0
    drawn: list[int] = field(default_factory=list)
    trained: list[int] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)
    ages: list[int] = field(default_factory=list)
    seconds: float = 0.0

    def run(self) -> "World":
        random = np.random.default_rng(self.seed)
        ledger = Ledger(ReplayLimits(STALENESS, BATCH, tasks=TASKS, lease_seconds=1e9, stragglers=self.rule))
        lengths: dict[int, int] = {}
        ends: list[tuple[float, int, int]] = []
        learner_free, now = 0.0, 0.0
        while True:
            for entry in ledger.lease("g", ledger.version, 10_000, now):
                length = max(1, int(random.lognormal(np.log(MEDIAN), SIGMA)))
                lengths[entry.group_id] = length
                self.drawn.append(length)
                heapq.heappush(ends, (now + length / TOKENS_PER_SECOND, entry.group_id, ledger.version))
            if now >= learner_free and (batch := ledger.take_batch(ledger.version)) is not None:
                version = ledger.version
                for entry in batch:
                    self.trained.append(lengths[entry.group_id])
                    self.ages.append(version - (entry.newest if self.rule == "mask" else entry.oldest))
                ledger.trained(version)
                ledger.commit(version + 1)
                learner_free = now + STEP_SECONDS
            for group_id, reason in ledger.take_dropped():
                assert reason is Reason.STALE
                self.dropped.append(lengths[group_id])
            if ends and (ends[0][0] <= learner_free or now >= learner_free):
                now, group_id, version = heapq.heappop(ends)
                ledger.group_arrived(group_id, version, ledger.version)
                ledger.verdict(group_id, [0.0, 1.0])
            elif now < learner_free:
                now = learner_free
            elif not ledger.to_lease(ledger.version):
                self.seconds = now
                return self


def differ(one: list[int], other: list[int]) -> bool:
    """Kolmogorov and Smirnov's two-sample test, at 5 %."""
    a, b = np.sort(one), np.sort(other)
    everything = np.concatenate((a, b))
    distance = np.abs(
        np.searchsorted(a, everything, "right") / len(a) - np.searchsorted(b, everything, "right") / len(b)
    )
    return bool(distance.max() > 1.358 * np.sqrt((len(a) + len(b)) / (len(a) * len(b))))


def fresh(count: int) -> list[int]:
    """Lengths of the distribution that generators draw from, drawn independently."""
    return [max(1, int(x)) for x in np.random.default_rng(1).lognormal(np.log(MEDIAN), SIGMA, count)]


@pytest.mark.parametrize("rule", ["wait", "mask"])
def test_what_is_trained_is_as_long_as_what_was_drawn(rule: Rule) -> None:
    world = World(rule).run()
    assert len(world.trained) > TASKS - BATCH
    assert not differ(world.trained, fresh(TASKS))
    assert len(world.dropped) <= 0.001 * TASKS
    assert max(world.ages) <= STALENESS, "a group without a token within the bound was trained"


def test_with_drop_the_bias_is_there_and_the_metrics_show_it() -> None:
    world = World("drop").run()
    assert differ(world.trained, fresh(TASKS))
    assert max(world.ages) <= STALENESS
    submitted, dropped = (Counter(map(length_label, lengths)) for lengths in (world.drawn, world.dropped))
    share = {label: dropped[label] / count for label, count in submitted.items() if count >= 20}
    assert share["256"] == share["1024"] == 0 and share["4096"] > 0.15, share
    assert sum(world.trained) / len(world.trained) < 0.9 * sum(fresh(TASKS)) / TASKS


def test_who_waits_pays_with_time() -> None:
    waited, masked = World("wait").run(), World("mask").run()
    assert waited.seconds > 1.1 * masked.seconds
    assert waited.dropped == [], "nothing is dropped for its age"
