"""What no rule decides, as a part of a reward. Nothing here needs torch: reward models are the scorers'."""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from actors.config.recipe import Recipe
from actors.config.stages import PreferencesConfig
from actors.errors import JudgeRefusalError
from actors.roles.verifier.scorer_pool import ScorerPool
from actors.roles.verifier.scoring import PART, AnswerScorer
from actors.tasks import Task
from learner.errors import BatchError
from sandbox import Status, Verdict

log = logging.getLogger(__name__)


class PreferenceReward:
    """Adds the part to the verdicts on a group."""

    def __init__(self, config: PreferencesConfig, scorer: AnswerScorer) -> None:
        self._config, self._scorer = config, scorer

    def wait_ready(self, stopped: Callable[[], bool]) -> None:
        """Return once groups can be scored, or on a stop; raises what will not be mended by waiting."""
        self._scorer.wait_ready(stopped)

    def close(self) -> None:
        """Nothing is scored any more."""
        self._scorer.close()

    def added_to(self, verdicts: list[Verdict], group: Mapping[str, Any], deadline: float) -> list[Verdict]:
        """The verdicts on a leased group, with the part `preference` and a reward that counts it.

        Evaluations and groups that could not be verified stay as they are. What goes wrong here makes every verdict an
        infra_error: the group is verified again, and never learned from half a reward. `deadline` is of time.monotonic.
        """
        if group["purpose"] == "evaluate" or any(v.status is Status.INFRA_ERROR for v in verdicts):
            return verdicts
        messages = tuple((role, content) for role, content in group["messages"])
        task = Task("", messages, group["verifier"], {})
        try:
            scores = self._scorer(task, group["texts"], deadline - time.monotonic())
            return with_preference(verdicts, scores, self._config)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong on our side is an infra_error, never a reward
            log.warning("no preference for group %s: %s: %s", group["group_id"], type(error).__name__, error)
            detail = f"{PART}: {type(error).__name__}: {error}"
            again = not isinstance(error, BatchError | JudgeRefusalError)  # what is too long to be read stays so
            return [
                replace(v, status=Status.INFRA_ERROR, reward=None, parts={}, detail=detail, retryable=again)
                for v in verdicts
            ]


def with_preference(
    verdicts: Sequence[Verdict], scores: Sequence[Mapping[str, float]], config: PreferencesConfig
) -> list[Verdict]:
    """reward_i + weight * clip(r_i - mean(r), -clip, clip) for the answers i of one group; the part `PART` is r_i.

    The mean of the group is the centre because preferences determine r only up to a term that depends on the prompt
    (the loss, InstructGPT eq. 1, sees differences within a prompt alone), and a judge is as strict as it likes. Raises
    ValueError for a score that is not finite, or another number of scores than verdicts.
    """
    totals = [parts[PART] for parts in scores]
    if not all(map(math.isfinite, totals)):
        raise ValueError("the reward model gave a score that is not finite; its weights may be damaged")
    centre = math.fsum(totals) / len(totals)
    return [
        replace(
            verdict,
            reward=(verdict.reward or 0.0) + config.weight * min(config.clip, max(-config.clip, total - centre)),
            parts={**verdict.parts, **parts},
        )
        for verdict, parts, total in zip(verdicts, scores, totals, strict=True)
    ]


def open_reward(
    recipe: Recipe, name: str, scorers: Callable[[], Mapping[str, str]], stopped: Callable[[], bool]
) -> PreferenceReward | None:
    """What scores preferences in this run, once it can; None where the recipe has none, or on a stop.

    Args:
        recipe: the run's.
        name: of this verifier.
        scorers: where the scorers are that take requests, by name.
        stopped: whether this verifier is to end.

    Raises:
        GaveUpError: no scorer, or no judge, is there in time.
        RecipeError: the judge cannot be used.
    """
    config = recipe.preferences
    if config is None:
        return None
    scorer: AnswerScorer
    if config.judge is not None:
        from actors.roles.verifier.judge import JudgeScorer

        scorer = JudgeScorer(recipe)
    elif recipe.has_scorers:
        scorer = ScorerPool(name, config.wait_seconds, scorers)
    else:
        return None
    reward = PreferenceReward(config, scorer)
    reward.wait_ready(stopped)
    return None if stopped() else reward
