"""R1: the curves by which DeepSeek-R1 tells how a model learns to reason."""

from grafana.panels import Board, Row, above, below, mean, panel, quantiles, stat, statistic, statistics


def share(trait: str) -> str:
    """Which share of the training completions has a trait, of those of which it can be said."""
    of = f'leeway_responses_total{{trait="{trait}"'
    return f'sum(rate({of}, present="yes"}}[W])) / sum(rate({of}}}[W]))'


HEADLINE = Row(
    "Does it learn to reason?",
    (
        stat(
            "Held-out accuracy",
            "percentunit",
            "pass@1 on tasks that are never trained on, latest evaluation.",
            "max(leeway_held_out_accuracy)",
            runbook="Held-out accuracy fell",
        ),
        stat(
            "Thoughts",
            "short",
            "Mean tokens before </think>, of the completions that mark their thoughts.",
            mean('leeway_response_tokens{part="thoughts"}'),
            runbook="Responses shrink",
        ),
        stat(
            "Reflecting",
            "percentunit",
            "Share of the completions with a word of reflection (wait, however, check, …).",
            share("reflects"),
        ),
        stat(
            "In the format",
            "percentunit",
            "Share of the completions in the format that is rewarded, or that the prompts ask for.",
            share("in_format"),
            runbook="Format lost",
        ),
        stat(
            "Mixing languages",
            "percentunit",
            "Share of the completions with more than one word in twenty in another language.",
            share("mixes_languages"),
            above("MAX_LANGUAGE_MIXING"),
            "Languages mixed",
        ),
        stat(
            "Entropy",
            "short",
            "Mean entropy of the policy at trained tokens (nats). Near zero it explores nothing any more.",
            statistic("entropy"),
            below("MIN_ENTROPY"),
            "Entropy collapsed",
        ),
    ),
)
THINKING = Row(
    "Thinking time",
    (
        panel(
            "Thoughts and answer",
            "short",
            "Mean tokens before and after </think>. R1-Zero's thoughts grew by themselves, and its accuracy with them.",
            (mean("leeway_response_tokens", "part"), "{{part}}"),
            runbook="Responses grow without gain",
        ),
        panel(
            "Length of thoughts",
            "short",
            "Quantiles of the tokens before </think>. The tail meets the token limit first.",
            *quantiles('leeway_response_tokens{part="thoughts"}', shares=(0.5, 0.9, 0.99)),
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
    ),
)
REFLECTION = Row(
    "Reflection",
    (
        panel(
            "Responses that reflect",
            "percentunit",
            "Share of the completions with at least one word of reflection; those without any words aside.",
            (share("reflects"), "reflecting"),
            share=True,
        ),
        panel(
            "Words of reflection",
            "short",
            "Mean number in a completion, see observables.reflection_words. Long thoughts have more of them.",
            (mean("leeway_reflection_words"), "words"),
        ),
        panel(
            "Completions by words of reflection",
            "short",
            "How many completions have how many. A few with very many repeat themselves.",
            ("sum by (le) (increase(leeway_reflection_words_bucket[W]))", "{{le}}"),
            kind="heatmap",
        ),
    ),
)
READABLE = Row(
    "Can people read it?",
    (
        panel(
            "Format",
            "percentunit",
            "Share of completions in the asked format. It is learned first; a fall means a collapse, or long thoughts.",
            (share("in_format"), "in the format"),
            share=True,
            runbook="Format lost",
        ),
        panel(
            "Mixing of languages",
            "percentunit",
            "Share of the completions with more than one word in twenty in another language.",
            (share("mixes_languages"), "mixing"),
            limit=above("MAX_LANGUAGE_MIXING"),
            share=True,
            runbook="Languages mixed",
        ),
        panel(
            "Language consistency",
            "percentunit",
            "Mean share of the words in rewards.language; without one, in each completion's most frequent script.",
            (mean("leeway_language_consistency"), "consistency"),
            share=True,
            runbook="Languages mixed",
        ),
    ),
)
DIFFICULTY = Row(
    "Are the tasks of the right difficulty?",
    (
        panel(
            "How often tasks are solved",
            "short",
            "Groups a second by how many of their completions are right. Those between never and always teach.",
            ("sum by (right) (rate(leeway_groups_by_difficulty_total[W]))", "{{right}}"),
            kind="stacked",
        ),
        panel(
            "Tasks that teach",
            "percentunit",
            "Share of the groups with right and wrong completions.",
            (
                'sum(rate(leeway_groups_by_difficulty_total{right=~"rarely|sometimes|mostly"}[W]))'
                " / sum(rate(leeway_groups_by_difficulty_total[W]))",
                "between never and always",
            ),
            limit=below("MIN_MIXED_GROUPS"),
            share=True,
            runbook="Few groups with mixed rewards",
        ),
        panel(
            "Tasks by solve rate",
            "short",
            "Tasks that tasks.curriculum follows, by how often they were solved lately. None without a curriculum.",
            ("sum by (right) (leeway_tasks_by_difficulty)", "{{right}}"),
            kind="stacked",
        ),
        panel(
            "Turns passed over",
            "short",
            "Turns of tasks a second that the curriculum left out, since they teach little now.",
            ("sum by (right) (rate(leeway_tasks_passed_over_total[W]))", "{{right}}"),
            kind="stacked",
        ),
        panel(
            "Entropy",
            "short",
            "Of the policy at trained tokens, and of the sampling policy over all of them (nats).",
            *statistics("entropy", "behaviour_entropy"),
            limit=below("MIN_ENTROPY"),
            runbook="Entropy collapsed",
        ),
    ),
)
BOARD = Board(
    "r1",
    "R1",
    "How the model learns to reason: thinking time, reflection, languages, format, difficulty.",
    (HEADLINE, THINKING, REFLECTION, READABLE, DIFFICULTY),
)
