"""How a statistic of a step is shown."""

from actors.report.statistics import describe


def test_parts_and_sources_of_the_reward_are_told_apart() -> None:
    assert describe("reward/format").label == "Reward part: format"
    assert describe("source_reward/jsonl:Train.jsonl").label == "Training reward of jsonl:Train.jsonl"
    assert describe("some_thing/else").label == "Some thing / else"
