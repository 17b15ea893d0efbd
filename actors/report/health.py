"""Symptoms of a run that goes wrong, while there is still time to stop it.

Reinforcement learning with a rule-based reward fails quietly: the loss looks fine while the policy collapses to answers
of a few tokens, or every group gets one and the same reward and nothing is learned any more. Each check below reads the
state of a run and returns a warning or None. A check never ends a run.
"""

from dataclasses import dataclass
from math import sqrt

from actors import events
from actors.observability import thresholds
from actors.report import advice
from actors.report import statistics as names
from actors.report.state import RunState


@dataclass(frozen=True)
class HealthWarning:
    """Something is wrong with a run.

    Attributes:
        symptom: short name of what is wrong, by which a warning is told apart from the others.
        text: what was seen, as a sentence.
        fix: what to do, as a sentence; a setting is named by its key in the recipe.
    """

    symptom: str
    text: str
    fix: str


def warnings(state: RunState) -> list[HealthWarning]:
    """All warnings that hold for the state of the run now, gravest first."""
    found = (
        _bound_broken(state),
        *_unwritten(state),
        _unresponsive(state),
        _fruitless(state),
        _standstill(state),
        _not_finite(state),
        _reward_model_guesses(state),
        _accuracy_drop(state),
        _reward_drop(state),
        _format_drop(state),
        _mixing(state),
        _short(state),
        _runaway(state),
        _entropy(state),
        _same_rewards(state),
        _truncated(state),
        _mismatch(state),
        *_wasted(state),
    )
    return [warning for warning in found if warning]


def _recent(state: RunState, name: str) -> float | None:
    """Mean of the last few points of a statistic; None while there are fewer."""
    series, window = state.statistics.get(name), thresholds.WINDOW_STEPS
    values = series.last(window) if series else []
    return sum(values) / window if len(values) == window else None


def _early(state: RunState, name: str) -> float | None:
    """Mean of the first points of a statistic; None while there are none but recent ones."""
    series = state.statistics.get(name)
    if series is None or len(series) < thresholds.EARLY_STEPS + thresholds.WINDOW_STEPS:
        return None
    values = series.last(len(series))[: thresholds.EARLY_STEPS]
    return sum(values) / len(values)


def _windows(state: RunState, name: str) -> list[float]:
    """Means of a statistic over every few neighbouring points; none while there are too few to compare."""
    series, window = state.statistics.get(name), thresholds.WINDOW_STEPS
    if series is None or len(series) < 2 * window:
        return []
    values = series.last(len(series))
    return [sum(values[i : i + window]) / window for i in range(len(values) - window + 1)]


def _solved(state: RunState) -> bool:
    return bool(state.evaluations) and state.evaluations[-1].pass_at_1 >= thresholds.SOLVED_ACCURACY


def _bound_broken(state: RunState) -> HealthWarning | None:
    oldest = state.oldest_trained
    if oldest <= state.info.max_staleness:
        return None
    text = f"Tokens {oldest} versions old were trained on, but the bound is {state.info.max_staleness}."
    return HealthWarning("staleness", text, "This must never happen. Stop the run and report it with its run folder.")


def _unwritten(state: RunState) -> list[HealthWarning]:
    return [
        HealthWarning(
            f"unwritten {what}",
            f"Could not write {what}: {reason}.",
            _unwritten_fix(state, what),
        )
        for what, reason in state.unwritten.items()
    ]


def _unwritten_fix(state: RunState, what: str) -> str:
    if what == events.MIRROR:
        return (
            f"Look at storage.mirror and its credentials: until it is written, {state.info.folder} alone has all of it."
        )
    return f"Make room in {state.info.folder}, or let it be written: {_meanwhile(what)}."


def _meanwhile(what: str) -> str:
    if what == events.JOURNAL:
        return "the run stands still until then, and nothing is lost"
    return "the run goes on, but what is missing is lost"


def _unresponsive(state: RunState) -> HealthWarning | None:
    if not state.unresponsive:
        return None
    each = "; ".join(f"{event.member} is {event.state} ({event.detail})" for event in state.unresponsive.values())
    fix = (
        "Look at its machine and its log. A silent one that does not come back within controller.hang_seconds, and a "
        "stuck one that stays so as long again, is replaced; the place of a lost one is tried again after "
        "controller.retry_seconds."
    )
    return HealthWarning("unresponsive", f"Not at work: {each}.", fix)


def _fruitless(state: RunState) -> HealthWarning | None:
    dropped = state.fruitless
    total = sum(dropped.values())
    if total < max(thresholds.MIN_ISSUED_GROUPS, thresholds.FRUITLESS_BATCHES * state.info.groups_per_batch):
        return None
    text = (
        f"{total} groups were dropped since a batch came together last ({advice.by_reason(dropped)}), and "
        f"{state.groups.ready} of the {state.info.groups_per_batch} groups of a batch are there."
    )
    fix = f"{advice.on_drops(dropped, state.refusals)} controller.fruitless_batches says when the run ends of it."
    return HealthWarning("fruitless", text, fix)


def _standstill(state: RunState) -> HealthWarning | None:
    idle = state.seconds - state.worked_at
    if state.phase.name not in ("training", "evaluation") or idle <= thresholds.STANDSTILL_SECONDS:
        return None
    waits = state.tick.waits if state.tick else {}
    each = "; ".join(f"the {role} waits for {what}" for role, what in waits.items())
    text = f"No pool has worked for {idle:.0f} s{': ' if each else ''}{each}."
    return HealthWarning("standstill", text, "See who is silent or lacks weights, on the status page and in logs/.")


def _not_finite(state: RunState) -> HealthWarning | None:
    if not state.not_finite:
        return None
    text = f"{state.not_finite} step(s) were skipped or had a statistic that is not a finite number."
    fix = "Lower learner.optimizer.learning_rate, or look at the gradient norm of the steps before."
    return HealthWarning("not_finite", text, fix)


def _reward_model_guesses(state: RunState) -> HealthWarning | None:
    found = state.reward_model
    if found is None or not found.is_chance:
        return None
    text = (
        f"The reward model puts {found.accuracy:.0%} of {found.held_out} held-out pairs in the right order, which is "
        "no better than chance."
    )
    fix = (
        "Its rewards are noise: stop, and give it more preferences.pairs, a higher preferences.supervised.epochs or a "
        "better preferences.base."
    )
    return HealthWarning("reward_model", text, fix)


def _accuracy_drop(state: RunState) -> HealthWarning | None:
    if len(state.evaluations) < 2:
        return None
    best, latest = max(state.evaluations, key=lambda done: done.pass_at_1), state.evaluations[-1]
    drop = best.pass_at_1 - latest.pass_at_1
    noise = thresholds.ACCURACY_STANDARD_ERRORS * sqrt(_variance(best) + _variance(latest))
    if drop <= max(thresholds.MIN_ACCURACY_DROP, noise):
        return None
    text = f"Held-out accuracy fell from {best.pass_at_1:.0%} ({best.name}) to {latest.pass_at_1:.0%} ({latest.name})."
    fix = "Start again with a lower learner.optimizer.learning_rate or a lower replay.max_staleness."
    return HealthWarning("accuracy", text, fix)


def _variance(done: events.EvaluationDone) -> float:
    return done.pass_at_1 * (1 - done.pass_at_1) / done.n


def _reward_drop(state: RunState) -> HealthWarning | None:
    means = _windows(state, names.REWARD)
    if not means or max(means) <= 0 or means[-1] >= thresholds.MIN_REWARD_RATIO * max(means):
        return None
    # Preferences count from the mean of a group: where the reward is little else, its mean is noise around 0.
    spread = _recent(state, names.REWARD_STD) if names.PREFERENCE in state.statistics else None
    if spread is not None and max(means) - means[-1] < spread / 2:
        return None
    text = f"Training reward fell from {max(means):.2f} at its best to {means[-1]:.2f}."
    return HealthWarning(
        "reward", text, "The policy is likely collapsing: stop, and lower learner.optimizer.learning_rate."
    )


def _format_drop(state: RunState) -> HealthWarning | None:
    means = _windows(state, names.FORMAT_RATE)
    if not means or means[-1] >= thresholds.MIN_FORMAT_RATIO * max(means):
        return None
    text = f"Only {means[-1]:.0%} of the responses are in the format; at their best {max(means):.0%} were."
    fix = "Raise rewards.weights.format, or lower learner.optimizer.learning_rate; the end of samples.jsonl shows why."
    return HealthWarning("format", text, fix)


def _mixing(state: RunState) -> HealthWarning | None:
    now = _recent(state, names.LANGUAGE_MIXING)
    if now is None or now <= thresholds.MAX_LANGUAGE_MIXING:
        return None
    text = f"{now:.0%} of the responses mix languages."
    fix = "Reward one: rewards.language and rewards.weights.language; look at what cold_start.traces are written in."
    return HealthWarning("language_mixing", text, fix)


def _short(state: RunState) -> HealthWarning | None:
    early, now = _early(state, names.RESPONSE_LENGTH), _recent(state, names.RESPONSE_LENGTH)
    if early is None or now is None or now >= thresholds.MIN_LENGTH_RATIO * early:
        return None
    text = f"Responses shrank from {early:.0f} to {now:.0f} tokens."
    return HealthWarning(
        "length", text, "Read the end of samples.jsonl: the model may have stopped reasoning to please the format."
    )


def _runaway(state: RunState) -> HealthWarning | None:
    early, now = _early(state, names.RESPONSE_LENGTH), _recent(state, names.RESPONSE_LENGTH)
    before, reward = _early(state, names.REWARD), _recent(state, names.REWARD)
    if early is None or now is None or now <= thresholds.MAX_LENGTH_GROWTH * early:
        return None
    if before is None or reward is None or reward > before:
        return None
    text = f"Responses grew from {early:.0f} to {now:.0f} tokens, and the reward did not."
    fix = (
        "Read the end of samples.jsonl: where it repeats itself, punish that by rewards.repetition_ngram and its "
        "weight, or length by rewards.overlong_max_tokens."
    )
    return HealthWarning("length_growth", text, fix)


def _entropy(state: RunState) -> HealthWarning | None:
    now = _recent(state, names.ENTROPY)
    if now is None or now >= thresholds.MIN_ENTROPY or _solved(state):
        return None
    text = f"Entropy is {now:.4f} nats a token (below {thresholds.MIN_ENTROPY}): the policy hardly explores any more."
    fix = "Lower learner.optimizer.learning_rate; raise generators.sampling.temperature or learner.objective.clip_high."
    return HealthWarning("entropy", text, fix)


def _same_rewards(state: RunState) -> HealthWarning | None:
    now = _recent(state, names.MIXED_GROUPS)
    if now is None or now >= thresholds.MIN_MIXED_GROUPS or _solved(state):
        return None
    if _recent(state, names.REVERSE_KL):  # it is a teacher that is learned from, and no reward
        return None
    text = f"Only {now:.0%} of the groups have mixed rewards: there is almost nothing to learn from."
    return HealthWarning("mixed_groups", text, "Choose easier or harder tasks.sources, or raise replay.group_size.")


def _truncated(state: RunState) -> HealthWarning | None:
    now = _recent(state, names.TRUNCATED)
    if now is None or now <= thresholds.MAX_TRUNCATED:
        return None
    text = f"{now:.0%} of the responses are cut off by the token limit."
    fix = (
        "Raise generators.sampling.max_tokens, or punish length: rewards.overlong_max_tokens, rewards.weights.overlong."
    )
    return HealthWarning("truncated", text, fix)


def _mismatch(state: RunState) -> HealthWarning | None:
    now = _recent(state, names.LOGPROB_DIFFERENCE)
    if now is None or now <= thresholds.MAX_LOGPROB_DIFFERENCE:
        return None
    text = f"Engine and learner disagree by {now:.2f} nats a token on the same weights."
    fix = "Set generators.dtype and learner.dtype to the same value; check that weights arrive whole."
    return HealthWarning("logprob_difference", text, fix)


def _wasted(state: RunState) -> list[HealthWarning]:
    groups, found = state.groups, []
    if groups.issued < thresholds.MIN_ISSUED_GROUPS:
        return []
    stale, infra = (groups.dropped.get(reason, 0) / groups.issued for reason in ("stale", "infra_error"))
    if stale > thresholds.MAX_STALE_SHARE:
        text = f"{stale:.0%} of the groups were dropped because they came too late."
        fix = "Lower generators.count or generators.groups_in_flight, or raise replay.max_staleness."
        found.append(HealthWarning("stale", text, fix))
    if infra > thresholds.MAX_INFRA_SHARE:
        said = state.refusals.get("infra_error")
        text = f"{infra:.1%} of the groups were dropped because a verifier broke{f': {said}' if said else ''}."
        found.append(HealthWarning("infra_error", text, "Read logs/verifier-*.log; the answers were not at fault."))
    return found
