"""The reward model in a scorer's memory."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from actors.config.recipe import Recipe
from actors.roles.scorer.batching import EncodedGroup
from actors.roles.scorer.encoder import Encoder, require_room
from actors.roles.scorer.messages import ScoreRequest, ScoreTexts
from actors.tasks import Task
from actors.transport.codec import Array
from learner import LearnerConfig, RewardModel
from learner.errors import BatchError


def scorer_config(recipe: Recipe, dtype: Literal["float32", "bfloat16"]) -> LearnerConfig:
    """How a model computes in a scorer: on a GPU where `scorers.gpus` asks for one, else on the CPU."""
    return LearnerConfig(
        dtype=dtype,
        device="cuda" if recipe.scorers.gpus else "cpu",
        threads=recipe.scorers.threads,
        micro_batch_tokens=recipe.scorers.batch_tokens,
        logit_chunk_tokens=recipe.learner.logit_chunk_tokens,
    )


class ServedModel:
    """A trained reward model. For one thread."""

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        """Raises RecipeError, or ModelError where the folder holds no model."""
        assert recipe.preferences is not None
        self._encoder = Encoder(recipe, folder)
        self._model = RewardModel(scorer_config(recipe, recipe.preferences.dtype), folder, recipe.seed)
        require_room(self._model, recipe)

    def read(self, request: ScoreRequest, _arrays: Mapping[str, Array]) -> EncodedGroup:
        """As `encode`, of a request. Raises BatchError where it is for a teacher."""
        if not isinstance(request, ScoreTexts):
            raise BatchError("a teacher was asked for, and this run's scorers hold a reward model; use one recipe")
        return self.encode(request.task, request.texts)

    def encode(self, task: Task, texts: Sequence[str]) -> EncodedGroup:
        """What is read of the answers to a task; what reads alike is scored once.

        Raises:
            BatchError: prompt and answer are longer than the model reads.
            RecipeError: the recipe's template cannot show the task.
        """
        prompt = self._encoder.prompt(task)
        read = [self._encoder.read(text) for text in texts]
        distinct = dict(zip(read, texts, strict=True))
        answers = tuple(self._encoder.answer(task, text) for text in distinct.values())
        for answer in answers:
            if not self._model.fits(prompt, answer):
                raise BatchError(
                    f"prompt and answer are {len(prompt) + len(answer)} tokens, and the reward model reads "
                    f"{self._model.max_length} at most; shorten prompts or answers, or take a model that reads more"
                )
        place = {text: number for number, text in enumerate(distinct)}
        return EncodedGroup(prompt, answers, tuple(place[text] for text in read))

    def score(self, groups: Sequence[EncodedGroup]) -> list[Array]:
        """r of every text of each group (nats), float32 [texts]: in as few forward passes as they need."""
        scores = self._model.score([(group.prompt, answer) for group in groups for answer in group.answers])
        ends = np.cumsum([len(group.answers) for group in groups])[:-1]
        parts = np.split(scores, ends)
        return [part[list(group.places)] for part, group in zip(parts, groups, strict=True)]
