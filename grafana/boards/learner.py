"""Learner: the objective, the policy, the rewards, and where the time of a step goes."""

from grafana.panels import NONE_IS_WELL, Board, Row, above, below, panel, quantiles, statistics

POLICY = Row(
    "Policy",
    (
        panel(
            "Entropy",
            "short",
            "Of the policy at trained tokens, and of the sampling policy over all of them (nats).",
            *statistics("entropy", "behaviour_entropy"),
            limit=below("MIN_ENTROPY"),
            runbook="LeewayEntropyCollapse",
        ),
        panel(
            "Divergence",
            "short",
            "From the reference and the teacher (0 without one), and from the policy that sampled (nats).",
            *statistics("kl", "reverse_kl", "behaviour_kl"),
        ),
        panel(
            "Engine against learner",
            "short",
            "Difference of their log-probabilities on completions of the current version (nats).",
            *statistics("logprob_difference_mean", "logprob_difference_p99", "logprob_difference_max"),
            limit=above("MAX_LOGPROB_DIFFERENCE"),
            runbook="LeewayLogprobMismatch",
        ),
        panel(
            "Ratios of probabilities",
            "short",
            "Smallest, mean and largest ratio pi / pi_old of a trained token. Far from 1 the data is off-policy.",
            *statistics("ratio_min", "ratio_mean", "ratio_max"),
        ),
        panel(
            "Clipped and masked",
            "percentunit",
            "Shares of trained tokens on which a bound of the objective acts, or that get no weight.",
            *statistics("clip_fraction_low", "clip_fraction_high", "masked_fraction"),
        ),
        panel(
            "Effective sample size",
            "percentunit",
            "Of the ratios policy / behaviour: 1 is on-policy, near 0 a few tokens decide everything.",
            *statistics("effective_sample_size"),
            share=True,
        ),
    ),
)
OPTIMIZATION = Row(
    "Optimization",
    (
        panel(
            "Loss", "short", "Loss of each step. Its sign and size say little in policy gradients.", *statistics("loss")
        ),
        panel(
            "Gradient norm",
            "short",
            "Global norm before clipping. Spikes come before a collapse.",
            *statistics("gradient_norm"),
            runbook="Loss or gradient not finite",
        ),
        panel("Learning rate", "sci", "Of each step, with warm-up and decay.", *statistics("learning_rate")),
        panel(
            "Advantages",
            "short",
            "Smallest, largest and mean absolute advantage. All zero: the batch teaches nothing.",
            *statistics("advantage_min", "advantage_max", "advantage_absolute_mean"),
        ),
        panel(
            "Mixed groups",
            "percentunit",
            "Share of groups whose rewards are not all equal.",
            *statistics("mixed_groups_fraction"),
            limit=below("MIN_MIXED_GROUPS"),
            share=True,
            runbook="Few groups with mixed rewards",
        ),
        panel(
            "Steps skipped",
            "short",
            "Optimizer steps of the latest batch that were skipped because loss or gradient was not finite.",
            *statistics("non_finite"),
            limit=NONE_IS_WELL,
            runbook="Loss or gradient not finite",
        ),
    ),
)
REWARDS = Row(
    "Rewards",
    (
        panel(
            "Rewards",
            "short",
            "Completions by reward, of all that were verified.",
            ("sum by (le) (increase(leeway_reward_bucket[W]))", "{{le}}"),
            kind="heatmap",
        ),
        panel(
            "Rewards by source",
            "percentunit",
            "Share of completions with a reward of more than 0.75, by source of tasks.",
            (
                '1 - sum by (source) (rate(leeway_reward_bucket{le="0.75"}[W]))'
                " / sum by (source) (rate(leeway_reward_count[W]))",
                "{{source}}",
            ),
            share=True,
            runbook="LeewayRewardCollapse",
        ),
        panel(
            "Parts of the reward",
            "short",
            "Median of each part before its weight, of all verified completions.",
            *quantiles("leeway_reward_part", "part", (0.5,)),
        ),
    ),
)
TIME = Row(
    "Time",
    (
        panel("Time of a step", "s", "Compute of one optimizer step.", *quantiles("leeway_step_seconds")),
        panel(
            "Wait for batches",
            "percentunit",
            "Share of the learner's time. Much waiting: add generators or verifiers.",
            ("sum(rate(leeway_learner_wait_seconds_total[W]))", "wait for a batch"),
            limit=above("MAX_WAIT_SHARE"),
            runbook="LeewayQueueStarved",
        ),
        panel(
            "Model FLOP utilisation",
            "percentunit",
            "Of each step, against learner.peak_teraflops or the measured peak.",
            *statistics("mfu"),
        ),
        panel(
            "Tokens trained",
            "short",
            "Completion tokens a second that went into a step.",
            ("sum(rate(leeway_trained_tokens_total[W]))", "tokens/s"),
        ),
        panel(
            "Time of a checkpoint",
            "s",
            "From its beginning until it is durable; training goes on meanwhile.",
            *quantiles("leeway_checkpoint_seconds"),
        ),
        panel(
            "Versions without a checkpoint",
            "short",
            "Versions that a crash of the learner would train again, and checkpoints that could not be written.",
            ("max(leeway_learner_version) - max(leeway_checkpoint_version)", "versions behind"),
            ("sum(leeway_checkpoint_failures_total)", "failed checkpoints"),
            runbook="LeewayCheckpointsFailing",
        ),
    ),
)
BOARD = Board(
    "learner",
    "Learner",
    "The objective, the policy, the rewards, and where the time of a step goes.",
    (POLICY, OPTIMIZATION, REWARDS, TIME),
)
