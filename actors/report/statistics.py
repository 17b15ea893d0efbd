"""The statistics of a step that the display, the report and the health checks know by name.

A learner may report more; unknown ones are recorded, plotted in the report's appendix, and nothing depends on them.
"""

from typing import NamedTuple


class Statistic(NamedTuple):
    """How to show a statistic."""

    label: str
    unit: str
    meaning: str


REWARD = "reward"
TRAINED_REWARD = "reward_mean"
REWARD_STD = "reward_std"
ENTROPY = "entropy"
MIXED_GROUPS = "mixed_groups"
RESPONSE_LENGTH = "response_length_mean"
TRUNCATED = "truncated_fraction"
LOGPROB_DIFFERENCE = "logprob_difference_mean"
LOGPROB_DIFFERENCE_TOKENS = "logprob_difference_tokens"
NON_FINITE = "non_finite"
REVERSE_KL = "reverse_kl"
# What verifiers see in completions: means over all that were verified since the step before, for which it can be said.
THINKING_TOKENS = "thinking_tokens"
ANSWER_TOKENS = "answer_tokens"
REFLECTION_WORDS = "reflection_words"
REFLECTION_RATE = "reflection_rate"
LANGUAGE_MIXING = "language_mixing"
LANGUAGE_CONSISTENCY = "language_consistency"
FORMAT_RATE = "format_rate"

KNOWN: dict[str, Statistic] = {
    REWARD: Statistic(
        "Training reward", "", "Mean reward of all rollouts verified since the step before, dropped groups included."
    ),
    ENTROPY: Statistic("Entropy", "nats/token", "How undecided the policy is. Near zero it no longer explores."),
    MIXED_GROUPS: Statistic(
        "Groups with mixed rewards", "share", "Only groups with better and worse answers teach anything."
    ),
    RESPONSE_LENGTH: Statistic("Response length", "tokens", "Mean length of the responses a step trained on."),
    TRUNCATED: Statistic("Truncated", "share", "Responses that the token limit cut off."),
    LOGPROB_DIFFERENCE: Statistic(
        "Engine and learner disagree by",
        "nats",
        "Mean |logprob(engine) − logprob(learner)| on tokens of the current policy. Correction handles small values.",
    ),
    "loss": Statistic("Loss", "", "The objective that was minimised; its size says little."),
    TRAINED_REWARD: Statistic("Reward of the trained groups", "", "Groups with equal rewards are not among them."),
    "kl": Statistic("KL to the reference", "nats", "How far the policy has moved from its reference."),
    REVERSE_KL: Statistic(
        "Reverse KL to the teacher", "nats/token", "How far the student is from its teacher, where it writes itself."
    ),
    "gradient_norm": Statistic("Gradient norm", "", "Before clipping."),
    "learning_rate": Statistic("Learning rate", "", ""),
    "ratio_mean": Statistic("Importance ratio, mean", "", "Current policy over behaviour policy; 1 is on-policy."),
    "ratio_max": Statistic("Importance ratio, maximum", "", ""),
    "clip_fraction_low": Statistic("Clipped below", "share", "Tokens whose ratio the lower bound held."),
    "clip_fraction_high": Statistic("Clipped above", "share", "Tokens whose ratio the upper bound held."),
    "ratio_min": Statistic("Importance ratio, minimum", "", ""),
    "weight_mean": Statistic("Weight of a token, mean", "", "What the correction and a token's age leave of it."),
    "masked_fraction": Statistic("Masked", "share", "Tokens that the correction or their age took out of the loss."),
    "staleness_mean": Statistic("Staleness of the trained tokens", "versions", ""),
    "mfu": Statistic("Model FLOP utilisation", "share", "Of the peak of the learner's devices."),
    "effective_sample_size": Statistic("Effective sample size", "share", "Of the tokens, after importance weights."),
}


#: Statistics of all responses that were verified since the step before, dropped groups included.
OBSERVED: dict[str, Statistic] = {
    THINKING_TOKENS: Statistic(
        "Tokens of thoughts", "tokens", "Mean before `</think>`, of the responses that mark their thoughts."
    ),
    ANSWER_TOKENS: Statistic("Tokens of the answer", "tokens", "Mean after `</think>`, of the same responses."),
    REFLECTION_WORDS: Statistic("Reflection words", "", "Mean number in a response, of those that have words at all."),
    REFLECTION_RATE: Statistic("Responses that reflect", "share", "Share of the same responses with at least one."),
    LANGUAGE_MIXING: Statistic(
        "Responses that mix languages", "share", "Share with more than one word in twenty in another language."
    ),
    LANGUAGE_CONSISTENCY: Statistic(
        "Language consistency",
        "share",
        "Mean share of a response's words in rewards.language, or without one in its most frequent script.",
    ),
    FORMAT_RATE: Statistic("Format rate", "share", "Share of responses in the format that is rewarded, or asked for."),
}
KNOWN |= OBSERVED

#: Prefix of the shares of the groups by how many of their completions are right.
DIFFICULTY = "difficulty/"
#: Prefix of the names of the parts of the reward.
REWARD_PART = "reward/"
PREFERENCE = f"{REWARD_PART}preference"
#: Prefix of the mean rewards of the task sources, where a run has several.
SOURCE_REWARD = "source_reward/"
#: Prefix of the mean lengths of their responses.
SOURCE_LENGTH = "source_length/"


def describe(name: str) -> Statistic:
    """How to show the statistic `name`, known or not."""
    if name.startswith(REWARD_PART):
        part = name.removeprefix(REWARD_PART)
        return Statistic(f"Reward part: {part}", "", "Mean over the trained groups, before its weight.")
    if name.startswith(SOURCE_REWARD):
        source = name.removeprefix(SOURCE_REWARD)
        return Statistic(f"Training reward of {source}", "", "Mean reward of its rollouts since the step before.")
    if name.startswith(SOURCE_LENGTH):
        source = name.removeprefix(SOURCE_LENGTH)
        return Statistic(f"Response length of {source}", "tokens", "Mean over its rollouts since the step before.")
    if name.startswith(DIFFICULTY):
        return Statistic(f"Tasks {name.removeprefix(DIFFICULTY)} solved", "share", "Of the verified groups.")
    return KNOWN.get(name) or Statistic(name.replace("_", " ").replace("/", " / ").capitalize(), "", "")
