"""Verifiers: verdicts, how long they take, the scorers that they ask, and whether isolation and workers hold."""

from grafana.panels import NONE_IS_WELL, Board, Row, above, panel, quantiles

VERDICTS = Row(
    "Verdicts",
    (
        panel(
            "Verdicts by status",
            "short",
            "Completions verified a second, by outcome.",
            ("sum by (status) (rate(leeway_verdicts_total[W]))", "{{status}}"),
            kind="stacked",
        ),
        panel(
            "Right answers",
            "percentunit",
            "Share of the verdicts that are ok.",
            ('sum(rate(leeway_verdicts_total{status="ok"}[W])) / sum(rate(leeway_verdicts_total[W]))', "ok"),
            share=True,
        ),
        panel(
            "Verifiers at fault",
            "percentunit",
            "Share of the verdicts that say nothing of the answer: the verifier itself broke.",
            (
                'sum(rate(leeway_verdicts_total{status="infra_error"}[W])) / sum(rate(leeway_verdicts_total[W]))',
                "infra_error",
            ),
            limit=above("MAX_INFRA_SHARE"),
            runbook="LeewayVerifierInfraErrors",
        ),
        panel(
            "Timeouts and memory",
            "percentunit",
            "Share of the verdicts in which a program took too long or too much. Sudden rises are overloaded machines.",
            (
                'sum by (status) (rate(leeway_verdicts_total{status=~"timeout|memory"}[W]))'
                " / on () group_left () sum(rate(leeway_verdicts_total[W]))",
                "{{status}}",
            ),
            limit=above("MAX_TIMEOUT_SHARE"),
            runbook="LeewayVerifierTimeouts",
        ),
        panel(
            "Checks by verifier",
            "short",
            "Checks in the sandbox a second, by verifier.",
            ("sum by (verifier) (rate(leeway_sandbox_verdicts_total[W]))", "{{verifier}}"),
            kind="stacked",
        ),
        panel(
            "Answers from the cache",
            "percentunit",
            "Share of the checks that an identical one had answered.",
            (
                "sum(rate(leeway_sandbox_cache_hits_total[W])) / (sum(rate(leeway_sandbox_cache_hits_total[W]))"
                " + sum(rate(leeway_sandbox_check_seconds_count[W])))",
                "cache",
            ),
            share=True,
        ),
    ),
)
TIME = Row(
    "Time",
    (
        panel("Scoring of a group", "s", "All completions of a group.", *quantiles("leeway_verification_seconds")),
        panel(
            "Time of a check",
            "s",
            "One check without queueing, by verifier. Near its limit: programs that never end.",
            *quantiles("leeway_sandbox_check_seconds", "verifier", (0.95,)),
        ),
        panel(
            "Wait for a worker",
            "s",
            "How long a check waited. Long waits: more verifiers, or more workers in each.",
            *quantiles("leeway_sandbox_queue_seconds"),
        ),
        panel(
            "Verifiers at work",
            "percentunit",
            "Share of the time in which each verifier checked.",
            ('sum by (member) (rate(leeway_busy_seconds_total{role="verifier"}[W]))', "{{member}}"),
            share=True,
        ),
        panel(
            "Checks queued or running",
            "short",
            "By verifier process. Only growing: the pool is the bottleneck.",
            ('sum by (member) (leeway_sandbox_queued_checks{role="verifier"})', "{{member}}"),
        ),
        panel(
            "Groups that wait for a verdict",
            "short",
            "Groups generated but not verified.",
            ('sum by (state) (leeway_groups{state=~"generated|verifying"})', "{{state}}"),
            kind="stacked",
        ),
    ),
)
JUDGE = Row(
    "Judge",
    (
        panel(
            "Requests to the judge",
            "reqps",
            "Scores asked of preferences.judge, by outcome. failed: away, busy, broken or late; refused: by the judge.",
            ("sum by (status) (rate(leeway_judge_seconds_count[W]))", "{{status}}"),
            kind="stacked",
        ),
        panel(
            "Requests without a score",
            "percentunit",
            "Share of the requests that failed, were refused, or had no score in their answer. Most are asked again.",
            (
                'sum by (status) (rate(leeway_judge_seconds_count{status!="scored"}[W]))'
                " / on () group_left () sum(rate(leeway_judge_seconds_count[W]))",
                "{{status}}",
            ),
            limit=above("MAX_JUDGE_FAILURES"),
            runbook="LeewayJudgeFailing",
        ),
        panel(
            "Time of a score",
            "s",
            "One request that the judge scored. Near preferences.judge.timeout_seconds the slowest are given up.",
            *quantiles('leeway_judge_seconds{status="scored"}'),
        ),
    ),
)
SANDBOX = Row(
    "Sandbox",
    (
        panel(
            "Workers",
            "short",
            "Grader processes alive, by verifier process.",
            ('sum by (member) (leeway_sandbox_worker_processes{role="verifier"})', "{{member}}"),
            width=12,
        ),
        panel(
            "Processes killed",
            "short",
            "A second, by reason. recycled is ordinary, died is not.",
            ("sum by (reason) (rate(leeway_sandbox_kills_total[W]))", "{{reason}}"),
            width=12,
        ),
        panel(
            "Starts",
            "short",
            "Workers and fork servers started a second. More than kills explain: they die at once.",
            ("sum(rate(leeway_sandbox_worker_starts_total[W]))", "workers/s"),
            ("sum(rate(leeway_sandbox_fork_server_starts_total[W]))", "fork servers/s"),
            width=12,
        ),
        panel(
            "Isolation leaks",
            "short",
            "Self-tests that found that a program could do what it must not.",
            ("sum(leeway_sandbox_self_test_leaks_total)", "leaks"),
            limit=NONE_IS_WELL,
            runbook="LeewayIsolationLeak",
            width=12,
        ),
    ),
)
SCORERS = Row(
    "Scorers, where preferences have a reward model, or distillation a teacher",
    (
        panel(
            "Answers of scorers",
            "short",
            "Groups of which verifiers asked the scorers, a second, by what came of it. late: nobody waited any more.",
            ("sum by (status) (rate(leeway_scorer_answers_total[W]))", "{{status}}"),
            kind="stacked",
        ),
        panel(
            "Wait for scores",
            "s",
            "Of a verifier for one scorer. Near verifiers.deadline_seconds: more scorers.",
            *quantiles("leeway_scorer_request_seconds"),
        ),
        panel(
            "Groups scored together",
            "short",
            "Mean over the batches. Near 1 while groups wait: scorers.batch_tokens is low.",
            ("sum(rate(leeway_scorer_batch_groups_sum[W])) / sum(rate(leeway_scorer_batch_groups_count[W]))", "groups"),
        ),
        panel(
            "Groups that wait for a scorer",
            "short",
            "By scorer. Only growing: the pool is the bottleneck.",
            ("sum by (member) (leeway_scorer_waiting_groups)", "{{member}}"),
        ),
        panel(
            "Scorers at work",
            "percentunit",
            "Share of the time in which each scorer scored.",
            ('sum by (member) (rate(leeway_busy_seconds_total{role="scorer"}[W]))', "{{member}}"),
            share=True,
        ),
        panel(
            "Tokens scored",
            "short",
            "Tokens that reward models or teachers read a second.",
            ("sum(rate(leeway_scored_tokens_total[W]))", "tokens/s"),
        ),
    ),
)
BOARD = Board(
    "verifiers",
    "Verifiers",
    "Verdicts, how long they take, and whether isolation and workers hold.",
    (VERDICTS, TIME, SCORERS, JUDGE, SANDBOX),
)
