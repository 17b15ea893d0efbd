"""Recording rules and alerts: one source, known metrics, the run's own thresholds, and a section for each alert."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from actors.observability import thresholds
from docs.generate.exported import names
from docs.generate.markdown import anchor

ROOT = Path(__file__).parents[4]
GROUPS: list[dict[str, Any]] = yaml.safe_load((ROOT / "deploy/monitoring/prometheusrule.yaml").read_text())["spec"][
    "groups"
]
RULES: list[dict[str, Any]] = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RUNBOOK = "https://github.com/leeway-rl/leeway/blob/main/docs/operations.md#"
#: What is not ours: Ray's own metrics, and what Prometheus says of a scrape.
OTHERS = {"up", "ray_node_mem_used", "ray_node_mem_total"}
#: The numbers that an alert compares with, by their names in the one table of thresholds.
THRESHOLDS = {
    "LeewayQueueStarved": {"MAX_WAIT_SHARE"},
    "LeewayQueueFull": {"MAX_QUEUE_SHARE"},
    "LeewayStalenessNearBound": {"NEAR_BOUND_SHARE"},
    "LeewayDropsRising": {"MAX_STALE_SHARE", "MIN_ISSUED_GROUPS"},
    "LeewayDropsBiasedByLength": {"MAX_LENGTH_RATIO", "MIN_ISSUED_GROUPS"},
    "LeewayJournalSlow": {"MAX_JOURNAL_SECONDS"},
    "LeewayDiskNearlyFull": {"MIN_DISK_FREE_BYTES"},
    "LeewayWeightSyncFailing": {"MAX_SYNC_FAILURES"},
    "LeewayWeightSyncSlow": {"MIN_BANDWIDTH_SHARE"},
    "LeewayVerifierInfraErrors": {"MAX_INFRA_SHARE"},
    "LeewayVerifierTimeouts": {"MAX_TIMEOUT_SHARE"},
    "LeewayJudgeFailing": {"MAX_JUDGE_FAILURES"},
    "LeewayEntropyCollapse": {"MIN_ENTROPY", "SOLVED_ACCURACY"},
    "LeewayRewardCollapse": {"MIN_REWARD_RATIO"},
    "LeewayLogprobMismatch": {"MAX_LOGPROB_DIFFERENCE"},
    "LeewayCrashLoop": {"MAX_RESTARTS"},
    "LeewayHeadMemory": {"MAX_HEAD_MEMORY"},
}


def without_labels(expression: str) -> str:
    """An expression without label matchers, ranges and grouping."""
    plain = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", expression)
    return re.sub(r"\b(by|on|without|ignoring)\s*\([^)]*\)", "", plain)


def test_every_metric_of_a_rule_is_exported_or_recorded() -> None:
    known = names() | OTHERS | {rule["record"] for rule in RULES if "record" in rule}
    words = {"sum", "rate", "avg", "max", "min", "increase", "and", "or", "unless"}
    words |= {"avg_over_time", "max_over_time", "histogram_quantile"}
    for rule in RULES:
        found = set(re.findall(r"\b[a-z_][\w:]*\b", without_labels(rule["expr"]))) - words
        assert found and found <= known, (rule.get("alert") or rule["record"], found - known)


def test_every_recorded_rule_is_named_by_level_metric_and_operation() -> None:
    recorded = [rule["record"] for rule in RULES if "record" in rule]
    assert len(recorded) == len(set(recorded))
    assert all(re.fullmatch(r"leeway:[a-z_]+:(rate|ratio|mean|p\d\d_)\d+[mh]", name) for name in recorded)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_compares_with_the_thresholds_of_the_run(name: str) -> None:
    numbers = {float(n) for n in re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.])", without_labels(ALERTS[name]["expr"]))}
    expected = {float(getattr(thresholds, each)) for each in THRESHOLDS.get(name, ())}
    assert numbers - {0.0, 1.0} == expected - {0.0, 1.0}


def test_every_threshold_for_alerts_is_used_by_one() -> None:
    assert set().union(*THRESHOLDS.values()) >= thresholds.ALERTS_ONLY
    assert THRESHOLDS.keys() <= ALERTS.keys()


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_grave_it_is_and_where_to_read_on(name: str) -> None:
    rule = ALERTS[name]
    assert name.startswith("Leeway") and "for" in rule
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == RUNBOOK + name.lower()


def test_alerts_and_sections_of_the_runbook_are_the_same() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    sections = re.findall(r"^### (Leeway\w+)\n(.*?)(?=^##)", text, re.MULTILINE | re.DOTALL)
    assert sorted(name for name, _ in sections) == sorted(ALERTS)
    for name, section in sections:
        assert anchor(name) == name.lower()
        assert all(f"**{word}:**" in section for word in ("Means", "Look at", "Do")), name
