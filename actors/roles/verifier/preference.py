"""What no rule decides, as a part of a reward. Nothing here needs torch until there is a model to load."""

import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from actors.config.base import Location
from actors.config.recipe import Recipe
from actors.config.stages import PreferencesConfig
from actors.deadline import until
from actors.errors import JudgeRefusalError, LeewayError, RecipeError, RunError
from actors.roles.verifier.scoring import PART, Scorer
from actors.storage.inputs import below, local
from actors.tasks import Task, read_pairs
from learner.errors import BatchError
from sandbox import Status, Verdict

log = logging.getLogger(__name__)

#: Where a run keeps the reward model that it has trained, in its run folder.
FOLDER = "reward-model"
#: How often a verifier looks whether the reward model is there (s).
LOOK_SECONDS = 0.25


class PreferenceReward:
    """Adds the part to the verdicts on a group."""

    def __init__(self, config: PreferencesConfig, scorer: Scorer) -> None:
        self._config, self._scorer = config, scorer

    def wait_ready(self, stopped: Callable[[], bool]) -> None:
        """Return once groups can be scored, or on a stop; raises what will not be mended by waiting."""
        self._scorer.wait_ready(stopped)

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


def open_reward(recipe: Recipe, folder: Path, stopped: Callable[[], bool]) -> PreferenceReward | None:
    """What scores preferences in this run, once it can; None where the recipe has none, or on a stop.

    Raises RunError where the reward model or the judge is not there in time, RecipeError or ModelError where it cannot
    be used.
    """
    config = recipe.preferences
    if config is None:
        return None
    if config.judge is not None:
        from actors.roles.verifier.judge import JudgeScorer

        reward = PreferenceReward(config, JudgeScorer(recipe))
        reward.wait_ready(stopped)
        return None if stopped() else reward
    place = folder / FOLDER
    if config.reward_model is None and not until(
        lambda: stopped() or place.is_dir(), config.wait_seconds, LOOK_SECONDS
    ):
        raise RunError(
            f"waited {config.wait_seconds:g} s for the reward model in {place}; see logs/learner.log, or raise "
            "preferences.wait_seconds"
        )
    if stopped():
        return None
    from actors.roles.verifier.scorer import RewardModelScorer

    place = model_folder(config, folder)
    scorer = RewardModelScorer(recipe, place)
    log.info("the reward model is loaded from %s", place)
    return PreferenceReward(config, scorer)


def model_folder(config: PreferencesConfig, folder: Path) -> Path:
    """Where the verifiers of the run in `folder` find the reward model; a folder of that name is always complete."""
    return folder / FOLDER if config.reward_model is None else local(config.reward_model)


def check_files(recipe: Recipe, folder: Path | None = None) -> None:
    """Look at the files of the section before anything is started, for a new run or for one that resumes in `folder`.

    Raises RecipeError for what cannot be used.
    """
    config = recipe.preferences
    trained = folder is not None and (folder / FOLDER).is_dir()
    if config is None or (config.pairs is not None and trained):
        return
    if config.pairs is not None:
        read_pairs(config.pairs, single=recipe.tasks.template != "chat")
    if config.base is not None:
        _configuration(config.base, "base")
    if config.reward_model is not None:
        found = _configuration(config.reward_model, "reward_model")
        kinds, labels = found.get("architectures") or [], found.get("id2label") or {}
        if len(labels) != 1 or not all(str(kind).endswith("ForSequenceClassification") for kind in kinds):
            raise RecipeError(
                f"preferences.reward_model: {config.reward_model} holds {', '.join(map(str, kinds)) or 'a model'}, "
                "which is no sequence classifier with one label; train one from `pairs`, with this model as `base`"
            )


def _configuration(folder: Location, key: str) -> dict[str, Any]:
    try:
        found = json.loads(local(below(folder, "config.json")).read_text())
    except LeewayError as error:
        raise RecipeError(f"preferences.{key}: {error}") from error
    except (OSError, ValueError) as error:
        raise RecipeError(f"preferences.{key}: {folder} holds no config.json that can be read ({error})") from error
    return dict(found)
