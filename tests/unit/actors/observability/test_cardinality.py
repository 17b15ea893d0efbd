"""How many series there are: bounded, whatever a run's length and its pools' sizes are."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

from actors.membership import ROLES
from actors.observability import metrics
from actors.observability.exposition import OF_ROLE, Exports
from actors.observability.waits import waiting

GENERATORS = 1000
#: What a label may stand for. None of it grows with processes, groups, versions or time.
LABELS = {
    *("role", "state", "reason", "kind", "length", "source", "part", "symptom", "fault", "name", "status", "verifier"),
    *("on", "folder", "run", "recipe", "objective", "model", "version", "python", "torch", "ray", "vllm"),
    *("right", "trait", "present"),
}


def series(role: str) -> int:
    exports = Exports()
    exports.own(role)
    return sum(
        not sample.name.endswith("_created")
        for family in exports.collect()
        if family.name.startswith("leeway")
        for sample in family.samples
    )


def before_and_after() -> tuple[dict[str, int], dict[str, int]]:
    """Series of each role before and after a thousand generators, in a process that no other test has counted in."""
    for role in ROLES:
        metrics.begin(role)
    for role in ROLES[2:]:
        metrics.RESTARTS.labels(role).inc()
    with waiting("generator-0", "to come up", counted_as="generator"):
        pass
    metrics.REWARD_PART.labels(metrics.part_label("accuracy")).observe(1.0)
    before = {role: series(role) for role in ROLES}
    for number in range(GENERATORS):
        metrics.RESTARTS.labels("generator").inc()
        metrics.QUEUE_AGE.observe(1.0, metrics.exemplar(number))
        with waiting(f"generator-{number}", "to come up", counted_as="generator"):
            pass
    return before, {role: series(role) for role in ROLES}


def test_a_thousand_generators_add_a_thousand_times_their_own_series_and_nothing_elsewhere() -> None:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
        before, after = fresh.submit(before_and_after).result(timeout=60)
    assert after == before
    assert before["generator"] < 60, "so many, a thousand times over, are what Prometheus has to take"
    assert all(count < 1000 for count in before.values()), before


def test_names_that_others_choose_are_bounded() -> None:
    for number in range(GENERATORS):
        metrics.REWARD_PART.labels(metrics.part_label(f"part-{number}"))
    [family] = metrics.REWARD_PART.collect()
    parts = {sample.labels["part"] for sample in family.samples}
    assert len(parts) <= metrics.MOST_NAMES + 1 and "other" in parts


def test_no_label_names_what_grows() -> None:
    for registries in OF_ROLE.values():
        for registry in registries:
            for collector in registry._collector_to_names:
                assert set(getattr(collector, "_labelnames", ())) <= LABELS
