"""Weights and network: how new weights reach the generators, and what passes between processes."""

from grafana.panels import NONE_IS_WELL, Board, Row, below, panel, quantiles

_SPEED = "sum(rate(leeway_weight_sync_bytes_total[W])) / sum(rate(leeway_weight_sync_transfer_seconds_sum[W]))"

WEIGHTS = Row(
    "Weights",
    (
        panel(
            "Versions",
            "short",
            "Version of the learner and of each generator. One that stays behind gets no weights.",
            ('max(leeway_learner_version{role="learner"})', "learner"),
            ('max by (member) (leeway_generator_version{role="generator"})', "{{member}}"),
            runbook="LeewayWeightSyncFailing",
        ),
        panel(
            "Time of an update",
            "s",
            "From the offer of an update to its commit.",
            *quantiles("leeway_weight_sync_seconds"),
            runbook="LeewayWeightSyncSlow",
        ),
        panel(
            "Transfer",
            "s",
            "Broadcast of an update's bytes: the part of an update that the network takes.",
            *quantiles("leeway_weight_sync_transfer_seconds"),
        ),
        panel(
            "Generation paused",
            "s",
            "How long each update stopped generation.",
            *quantiles("leeway_weight_sync_pause_seconds"),
        ),
        panel(
            "Speed of a broadcast",
            "Bps",
            "Bytes of weights, counted once for all receivers, by the time of their transfer; beside it what the "
            "network can do by the preflight's measurement.",
            (_SPEED, "broadcast"),
            ("max(leeway_network_bandwidth_bytes_per_second) > 0", "measured network"),
        ),
        panel(
            "Share of the network",
            "percentunit",
            "Speed of a broadcast by what the preflight measured. Below a half: small tensors, or a wrong interface.",
            (f"{_SPEED} / (max(leeway_network_bandwidth_bytes_per_second) > 0)", "share"),
            limit=below("MIN_BANDWIDTH_SHARE"),
            share=True,
            runbook="LeewayWeightSyncSlow",
        ),
        panel(
            "Generators evicted",
            "short",
            "Generators that an update went on without, since the learner began.",
            ("sum(leeway_weight_sync_failures_total)", "evicted"),
            limit=NONE_IS_WELL,
            runbook="LeewayWeightSyncFailing",
        ),
        panel(
            "Membership epoch",
            "short",
            "Grows by one whenever the broadcast group is formed anew: a generator came or went.",
            ("max(leeway_weight_epoch)", "epoch"),
        ),
        panel(
            "Weights published",
            "Bps",
            "Bytes of weights a second, counted once for all receivers.",
            ("sum(rate(leeway_weight_sync_bytes_total[W]))", "bytes/s"),
        ),
    ),
)
NETWORK = Row(
    "Messages",
    (
        panel(
            "Requests to the replay",
            "reqps",
            "By kind. The replay is one process: its CPU time is on the board of the fleet.",
            ("sum by (kind) (rate(leeway_messages_total[W]))", "{{kind}}"),
        ),
        panel(
            "Malformed messages",
            "short",
            "Messages that replay, controller, learner or generators refused. A stranger, or versions differ.",
            ("sum(leeway_messages_malformed_total)", "to the replay"),
            ("sum(leeway_weight_messages_malformed_total)", "about weights"),
            ("sum(leeway_events_malformed_total)", "events"),
            ("sum(leeway_messages_forbidden_total)", "not for the key's role"),
            limit=NONE_IS_WELL,
        ),
        panel(
            "Connections refused",
            "short",
            "Connections that were cut, by reason. unauthorized: a wrong token, or a stranger.",
            ("sum by (role, reason) (leeway_connections_refused_total)", "{{role}}: {{reason}}"),
            limit=NONE_IS_WELL,
        ),
    ),
)
BOARD = Board(
    "weights",
    "Weights and network",
    "How new weights reach the generators, how much of the network that uses, and what passes between processes.",
    (WEIGHTS, NETWORK),
)
