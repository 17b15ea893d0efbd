"""Rollouts and staleness: what generators make, how old it is when it is learned from, and what is lost."""

from grafana.panels import Board, Row, above, mean, panel, quantiles, statistics

STALENESS = Row(
    "Staleness",
    (
        panel(
            "Staleness of delivered groups",
            "short",
            "Versions between a group's oldest token and the learner. Never beyond replay.max_staleness.",
            ("sum by (le) (increase(leeway_staleness_versions_bucket[W]))", "{{le}}"),
            kind="heatmap",
            runbook="LeewayStalenessNearBound",
        ),
        panel(
            "Staleness by length",
            "short",
            "Mean staleness (versions) by the longest completion. Long answers are older: they took longer.",
            (mean("leeway_staleness_versions", "length"), "up to {{length}} tokens"),
        ),
        panel(
            "Age of trained tokens",
            "short",
            "Mean and largest age of the tokens of each batch (versions).",
            *statistics("staleness_mean", "staleness_max"),
            runbook="LeewayStalenessNearBound",
        ),
        panel(
            "Tokens without weight",
            "short",
            "Delivered tokens a second that get no weight for their age, by length. Lost work.",
            ("sum by (length) (rate(leeway_masked_tokens_total[W]))", "up to {{length}} tokens"),
        ),
        panel(
            "Waits for stragglers",
            "percentunit",
            "Share of the time in which the learner waited rather than outrun long groups, by the length of the last.",
            ("sum by (length) (rate(leeway_straggler_wait_seconds_total[W]))", "up to {{length}} tokens"),
        ),
        panel(
            "Dropped as stale",
            "percentunit",
            "Share of the issued groups that were dropped as stale. Admission should prevent it.",
            (
                'sum(rate(leeway_groups_dropped_total{reason="stale"}[W])) / sum(rate(leeway_groups_issued_total[W]))',
                "stale",
            ),
            limit=above("MAX_STALE_SHARE"),
            runbook="LeewayDropsRising",
        ),
    ),
)
QUEUE = Row(
    "Replay",
    (
        panel(
            "Groups by state",
            "short",
            "Where groups are. A state that only grows is behind the bottleneck.",
            (
                'sum by (state) (leeway_groups{state=~"leased|generated|verifying|ready|delivered"})',
                "{{state}}",
            ),
            kind="stacked",
            runbook="LeewayQueueFull",
        ),
        panel(
            "Time in the queue",
            "s",
            "From verdict to delivery. Long times make groups stale before they are learned from.",
            *quantiles("leeway_queue_age_seconds"),
            ("max(leeway_queue_oldest_seconds)", "oldest now"),
        ),
        panel(
            "Groups issued and committed",
            "short",
            "Groups a second that generators got, and that a durable checkpoint covers.",
            ("sum(rate(leeway_groups_issued_total[W]))", "issued/s"),
            ("sum(rate(leeway_groups_committed_total[W]))", "committed/s"),
        ),
        panel(
            "Drops by reason",
            "short",
            "Groups dropped a second. zero_variance is ordinary where the objective filters.",
            ("sum by (reason) (rate(leeway_groups_dropped_total[W]))", "{{reason}}"),
            kind="stacked",
            runbook="Every group dropped",
        ),
        panel(
            "Length: submitted, delivered, dropped",
            "short",
            "Mean longest completion (tokens). Where delivered lies below submitted, drops are biased by length.",
            (mean("leeway_submitted_length_tokens"), "submitted"),
            (mean("leeway_delivered_length_tokens"), "delivered"),
            (mean("leeway_dropped_length_tokens"), "dropped"),
            runbook="LeewayDropsBiasedByLength",
        ),
        panel(
            "Tasks to be issued again",
            "short",
            "Tasks whose group was lost with a worker, or returned, and that wait for another generator.",
            ("sum(leeway_tasks_pending)", "pending"),
        ),
    ),
)
GENERATION = Row(
    "Generation",
    (
        panel(
            "Tokens by generator",
            "short",
            "Sampled tokens of finished completions a second. One that lags has a slow machine, or long answers.",
            ("sum by (member) (rate(leeway_generated_tokens_total[W]))", "{{member}}"),
            kind="stacked",
        ),
        panel(
            "Groups in flight",
            "short",
            "Groups that each engine works on: generators.groups_in_flight, unless tasks or weights are missing.",
            ('sum by (member) (leeway_generator_groups_in_flight{role="generator"})', "{{member}}"),
        ),
        panel(
            "Responses cut off",
            "percentunit",
            "Share of the trained completions that the token limit ended.",
            *statistics("truncated_fraction"),
            limit=above("MAX_TRUNCATED"),
            share=True,
            runbook="Responses cut off",
        ),
        panel(
            "vLLM: requests",
            "short",
            "Sequences that vLLM works on, and that wait for room in its cache.",
            ("sum(vllm:num_requests_running)", "running"),
            ("sum(vllm:num_requests_waiting)", "waiting"),
        ),
        panel(
            "vLLM: cache in use",
            "percentunit",
            "Share of the key-value cache in use. At 1 vLLM preempts sequences and computes them again.",
            ("max by (member) (vllm:kv_cache_usage_perc)", "{{member}}"),
            share=True,
        ),
        panel(
            "vLLM: latency",
            "s",
            "Time to the first token and between tokens.",
            *(
                (query, f"{name} {legend}")
                for metric, name in (
                    ("vllm:time_to_first_token_seconds", "first token"),
                    ("vllm:inter_token_latency_seconds", "next token"),
                )
                for query, legend in quantiles(metric)
            ),
        ),
    ),
)
BOARD = Board(
    "rollouts",
    "Rollouts and staleness",
    "What generators make, how old it is when it is learned from, and what is lost on the way.",
    (STALENESS, QUEUE, GENERATION),
)
