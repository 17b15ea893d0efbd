"""The teacher in a scorer's memory."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from actors.config.base import Location
from actors.config.recipe import Recipe
from actors.errors import ProtocolError
from actors.models.tokenizer import load_tokenizer, require_same
from actors.roles.scorer.batching import EncodedGroup
from actors.roles.scorer.messages import ScoreRequest, ScoreTokens
from actors.roles.scorer.model import scorer_config
from actors.storage.inputs import local
from actors.transport.codec import Array
from learner import Teacher
from learner.errors import BatchError


class ServedTeacher:
    """The teacher of on-policy distillation. For one thread."""

    def __init__(self, recipe: Recipe, folder: Path, student: Location | None) -> None:
        """Raises RecipeError where teacher and student have not one tokenizer, ModelError where there is no model."""
        assert recipe.distillation is not None
        if student is not None:
            require_same(load_tokenizer(local(student)), load_tokenizer(folder), folder)
        self._temperature = recipe.generators.sampling.temperature
        self._teacher = Teacher(scorer_config(recipe, recipe.distillation.dtype), folder)

    def read(self, request: ScoreRequest, arrays: Mapping[str, Array]) -> EncodedGroup:
        """The completions of a request.

        Raises:
            BatchError: the teacher cannot read them, or a reward model is asked for.
            ProtocolError: arrays and lengths do not fit together.
        """
        if not isinstance(request, ScoreTokens):
            raise BatchError("a reward model was asked for, and this run's scorers hold a teacher; use one recipe")
        prompt, tokens = arrays.get("prompt"), arrays.get("tokens")
        if prompt is None or tokens is None or {(a.dtype.str, a.ndim) for a in (prompt, tokens)} != {("<i4", 1)}:
            raise ProtocolError("logprobs: prompt and tokens must be int32 with one dimension")
        if sum(request.lengths) != len(tokens):
            raise ProtocolError(
                f"logprobs: lengths add up to {sum(request.lengths)}, and there are {len(tokens)} tokens"
            )
        completions = tuple(np.split(tokens, np.cumsum(request.lengths)[:-1]))
        self._teacher.require_readable(prompt, completions)
        return EncodedGroup(prompt, completions, tuple(range(len(completions))))

    def score(self, groups: Sequence[EncodedGroup]) -> list[Array]:
        """Log-probabilities of every token of each group (nats), float32 [N]: in as few forward passes as they need."""
        found = self._teacher.logprobs([(group.prompt, group.answers) for group in groups], self._temperature)
        return [np.concatenate(each) for each in found]
