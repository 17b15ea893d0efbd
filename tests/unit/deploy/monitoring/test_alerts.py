"""Each alert against series of its own: those that make it fire, those of a healthy run, and none at all."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[4]
RULES = ROOT / "deploy" / "monitoring" / "rules.yaml"
ALERTS = [rule["alert"] for g in yaml.safe_load(RULES.read_text())["groups"] for rule in g["rules"] if "alert" in rule]
#: How long the series are (min), and when it is looked: the longest window and the longest wait are over by then.
MINUTES, AT = 120, "110m"

pytestmark = pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool, which comes with Prometheus")


def counts(rate: float) -> str:
    """A counter that grows by so much a minute."""
    return f"0+{rate:g}x{MINUTES}"


def stays(value: float) -> str:
    """A gauge."""
    return f"{value:g}+0x{MINUTES}"


@dataclass(frozen=True)
class Case:
    """Series by name and labels (that of the run comes to them): some that make an alert fire, and some that do not.

    Attributes:
        bad, well: the two.
        at: when it is looked.
    """

    bad: dict[str, str]
    well: dict[str, str]
    at: str = AT


CASES = {
    "LeewayLearnerStuck": Case({"leeway_step_seconds_count": stays(7)}, {"leeway_step_seconds_count": counts(2)}),
    "LeewayQueueStarved": Case(
        {"leeway_learner_wait_seconds_total": counts(50)}, {"leeway_learner_wait_seconds_total": counts(10)}
    ),
    "LeewayQueueFull": Case(
        {
            'leeway_groups{state="ready"}': stays(79),
            "leeway_staleness_bound_versions": stays(4),
            "leeway_groups_per_batch": stays(16),
        },
        {
            'leeway_groups{state="ready"}': stays(30),
            "leeway_staleness_bound_versions": stays(4),
            "leeway_groups_per_batch": stays(16),
        },
    ),
    "LeewayStalenessNearBound": Case(
        {
            'leeway_staleness_versions_bucket{le="2"}': counts(1),
            'leeway_staleness_versions_bucket{le="4"}': counts(10),
            'leeway_staleness_versions_bucket{le="+Inf"}': counts(10),
            "leeway_staleness_bound_versions": stays(4),
        },
        {
            'leeway_staleness_versions_bucket{le="2"}': counts(10),
            'leeway_staleness_versions_bucket{le="4"}': counts(10),
            'leeway_staleness_versions_bucket{le="+Inf"}': counts(10),
            "leeway_staleness_bound_versions": stays(4),
        },
    ),
    "LeewayDropsRising": Case(
        {'leeway_groups_dropped_total{reason="stale"}': counts(2), "leeway_groups_issued_total": counts(10)},
        {  # what has equal rewards teaches nothing, and is dropped in a healthy run
            'leeway_groups_dropped_total{reason="stale"}': counts(0.5),
            'leeway_groups_dropped_total{reason="zero_variance"}': counts(5),
            "leeway_groups_issued_total": counts(10),
        },
    ),
    "LeewayDropsBiasedByLength": Case(
        {
            'leeway_dropped_length_tokens_sum{reason="stale"}': counts(2000),
            'leeway_dropped_length_tokens_count{reason="stale"}': counts(2),
            "leeway_submitted_length_tokens_sum": counts(5000),
            "leeway_submitted_length_tokens_count": counts(10),
        },
        {
            'leeway_dropped_length_tokens_sum{reason="stale"}': counts(1000),
            'leeway_dropped_length_tokens_count{reason="stale"}': counts(2),
            "leeway_submitted_length_tokens_sum": counts(5000),
            "leeway_submitted_length_tokens_count": counts(10),
        },
    ),
    "LeewayJournalSlow": Case(
        {
            'leeway_journal_write_seconds_bucket{le="1"}': counts(1),
            'leeway_journal_write_seconds_bucket{le="5"}': counts(10),
            'leeway_journal_write_seconds_bucket{le="+Inf"}': counts(10),
        },
        {
            'leeway_journal_write_seconds_bucket{le="1"}': counts(10),
            'leeway_journal_write_seconds_bucket{le="5"}': counts(10),
            'leeway_journal_write_seconds_bucket{le="+Inf"}': counts(10),
        },
    ),
    "LeewayJournalBlocked": Case({"leeway_journal_blocked": stays(1)}, {"leeway_journal_blocked": stays(0)}),
    "LeewayDiskNearlyFull": Case(
        {'leeway_disk_free_bytes{folder="run"}': stays(1e9)}, {'leeway_disk_free_bytes{folder="run"}': stays(1e11)}
    ),
    "LeewayCheckpointsFailing": Case(
        {"leeway_checkpoint_failures_total": counts(0.2)}, {"leeway_checkpoint_failures_total": stays(3)}
    ),
    "LeewayWeightSyncFailing": Case(
        {"leeway_weight_sync_failures_total": counts(0.5)}, {"leeway_weight_sync_failures_total": counts(0.05)}
    ),
    "LeewayWeightSyncSlow": Case(
        {
            "leeway_weight_sync_seconds_sum": counts(40),
            "leeway_weight_sync_seconds_count": counts(2),
            "leeway_step_seconds_sum": counts(20),
            "leeway_step_seconds_count": counts(2),
        },
        {
            "leeway_weight_sync_seconds_sum": counts(4),
            "leeway_weight_sync_seconds_count": counts(2),
            "leeway_step_seconds_sum": counts(20),
            "leeway_step_seconds_count": counts(2),
        },
    ),
    "LeewayVerifierInfraErrors": Case(
        {'leeway_verdicts_total{status="infra_error"}': counts(1), 'leeway_verdicts_total{status="ok"}': counts(20)},
        {'leeway_verdicts_total{status="wrong"}': counts(20), 'leeway_verdicts_total{status="ok"}': counts(20)},
    ),
    "LeewayVerifierTimeouts": Case(
        {'leeway_verdicts_total{status="timeout"}': counts(5), 'leeway_verdicts_total{status="ok"}': counts(20)},
        {'leeway_verdicts_total{status="timeout"}': counts(1), 'leeway_verdicts_total{status="ok"}': counts(20)},
    ),
    "LeewayJudgeFailing": Case(
        {
            'leeway_judge_seconds_count{status="failed"}': counts(5),
            'leeway_judge_seconds_count{status="scored"}': counts(20),
        },
        {
            'leeway_judge_seconds_count{status="failed"}': counts(1),
            'leeway_judge_seconds_count{status="scored"}': counts(20),
        },
    ),
    "LeewayIsolationLeak": Case(
        {"leeway_sandbox_self_test_leaks_total": stays(1)}, {"leeway_sandbox_self_test_leaks_total": stays(0)}
    ),
    "LeewayEntropyCollapse": Case(
        {'leeway_step_statistic{name="entropy"}': stays(0.001), "leeway_held_out_accuracy": stays(0.4)},
        # low entropy is what one hopes for where the tasks are solved
        {'leeway_step_statistic{name="entropy"}': stays(0.001), "leeway_held_out_accuracy": stays(0.97)},
    ),
    "LeewayRewardCollapse": Case(
        {'leeway_step_statistic{name="reward_mean"}': "0.8+0x60 0.2+0x60"},
        {'leeway_step_statistic{name="reward_mean"}': "0.8+0x60 0.7+0x60"},
    ),
    "LeewayLogprobMismatch": Case(
        {'leeway_step_statistic{name="logprob_difference_mean"}': stays(0.2)},
        {'leeway_step_statistic{name="logprob_difference_mean"}': stays(0.02)},
    ),
    "LeewayRunWarning": Case(
        {'leeway_warning{symptom="truncated"}': stays(1)},
        {'leeway_warning{symptom="truncated"}': stays(0), 'leeway_warning{symptom="entropy"}': stays(1)},
    ),
    "LeewayCrashLoop": Case(
        {'leeway_restarts_total{role="generator"}': counts(0.5)},
        {'leeway_restarts_total{role="generator"}': counts(0.05)},
    ),
    "LeewayProcessUnresponsive": Case(
        {'leeway_unresponsive{role="verifier"}': stays(1)}, {'leeway_unresponsive{role="verifier"}': stays(0)}
    ),
    "LeewayLedgerNotConserved": Case({"leeway_ledger_conserved": stays(0)}, {"leeway_ledger_conserved": stays(1)}),
    "LeewayHeadMemory": Case(
        {
            'ray_node_mem_used{IsHeadNode="true",instance="h"}': stays(15e9),
            'ray_node_mem_total{IsHeadNode="true",instance="h"}': stays(16e9),
        },
        {
            'ray_node_mem_used{IsHeadNode="true",instance="h"}': stays(8e9),
            'ray_node_mem_total{IsHeadNode="true",instance="h"}': stays(16e9),
        },
    ),
    "LeewayScrapeGone": Case({'up{role="learner",member="l"}': stays(0)}, {'up{role="learner",member="l"}': stays(1)}),
}


def of_run(series: str) -> str:
    name, _, labels = series.partition("{")
    return f'{name}{{run="r",{labels}' if labels else f'{name}{{run="r"}}'


def look(alert: str, series: dict[str, str], at: str, fires: bool) -> dict[str, Any]:
    """One test of promtool's: whether an alert fires."""
    expected = [{"labels": "{}", "value": 1}] if fires else []
    expression = f'count(ALERTS{{alertname="{alert}", alertstate="firing"}})'
    return {
        "interval": "1m",
        "input_series": [{"series": of_run(name), "values": values} for name, values in series.items()],
        "promql_expr_test": [{"expr": expression, "eval_time": at, "exp_samples": expected}],
    }


def promtool(folder: Path, *tests: dict[str, Any]) -> None:
    file = folder / "test.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": list(tests)}))
    found = subprocess.run(["promtool", "test", "rules", str(file)], capture_output=True, text=True, timeout=120)
    assert found.returncode == 0, found.stdout + found.stderr


def test_every_alert_has_a_case() -> None:
    assert sorted(ALERTS) == sorted(CASES)


@pytest.mark.parametrize("name", CASES)
def test_an_alert_fires_when_it_has_to_and_only_then(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    promtool(tmp_path, look(name, case.bad, case.at, fires=True), look(name, case.well, case.at, fires=False))


def test_a_learner_that_cannot_be_scraped_is_stuck_where_the_replay_delivers_nothing(tmp_path: Path) -> None:
    delivered = 'leeway_staleness_versions_count{length="64"}'
    gone = {"leeway_step_seconds_count": f"0+2x20 _x{MINUTES}", delivered: f"0+2x20 40+0x{MINUTES}"}
    works = {"leeway_step_seconds_count": f"0+2x20 _x{MINUTES}", delivered: counts(2)}
    alert = "LeewayLearnerStuck"
    promtool(tmp_path, look(alert, gone, AT, fires=True), look(alert, works, AT, fires=False))


def test_where_there_are_no_series_nothing_fires(tmp_path: Path) -> None:
    promtool(tmp_path, *(look(name, {}, AT, fires=False) for name in ALERTS))
