"""What the controller reads off the metrics of the pools."""

import pytest

from actors.observability import metrics
from actors.observability.scrape import Reading, busy_shares, rate, read


def test_what_is_served_is_read() -> None:
    server = metrics.serve("127.0.0.1", 0)
    address = f"127.0.0.1:{server.server_port}"
    before = read(address)
    assert before is not None
    metrics.GENERATED_TOKENS.inc(100)
    with metrics.busy("generator"):
        during = read(address)
    assert during is not None
    assert during.generated_tokens == before.generated_tokens + 100
    assert during.busy["generator"] >= before.busy.get("generator", 0.0)
    server.shutdown()
    server.server_close()
    assert read(address) is None


def test_shares_are_means_over_the_processes_of_a_role() -> None:
    before = {"a": Reading(busy={"generator": 1.0}), "b": Reading(busy={"generator": 0.0})}
    now = {"a": Reading(busy={"generator": 3.0}), "b": Reading(busy={"generator": 1.0}), "new": Reading()}
    assert busy_shares(before, now, 2.0, ["generator", "learner"]) == {"generator": 0.75, "learner": 0.0}


def test_rates_ignore_processes_that_are_new_or_gone() -> None:
    before = {"a": Reading(generated_tokens=10.0), "gone": Reading(generated_tokens=99.0)}
    now = {"a": Reading(generated_tokens=30.0), "new": Reading(generated_tokens=500.0)}
    assert rate(before, now, 2.0, "generated_tokens") == pytest.approx(10.0)
