"""What to change where groups are dropped, by the reason for it."""

from collections.abc import Mapping

_BY_REASON = {
    "zero_variance": "all rewards of a group are equal: choose easier or harder tasks.sources, raise "
    "replay.group_size, or look for a verifier or a format that is always wrong",
    "stale": "they come too late: lower generators.groups_in_flight, or raise replay.max_staleness",
    "infra_error": "verification breaks, and the answers are not at fault: read logs/verifier-*.log",
    "overlong": "prompts are too long: raise tasks.max_prompt_tokens, or leave them out of tasks.sources",
    "malformed": "what the engine returns cannot be trained on: read logs/generator-*.log",
    "lease_expired": "a group had no new token for replay.lease_seconds: read logs/generator-*.log",
    "attempts_exhausted": "their generators were lost with them, replay.generation_attempts times in a row: read "
    "logs/generator-*.log",
}


def by_reason(dropped: Mapping[str, int]) -> str:
    """`40 zero_variance, 2 stale`: the most frequent first."""
    return ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items(), key=lambda item: -item[1]))


def on_drops(dropped: Mapping[str, int], refusals: Mapping[str, str]) -> str:
    """What to change, for the most frequent reason.

    Args:
        dropped: groups by reason, at least one.
        refusals: what was said of the latest group refused or not verified, by reason.
    """
    reason = max(dropped, key=lambda name: dropped[name])
    said = f" (the latest: {refusals[reason]})" if refusals.get(reason) else ""
    return f"Most are {reason}{said}: {_BY_REASON.get(reason, 'read the logs of generators and verifiers')}."
