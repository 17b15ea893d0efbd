"""What a reward model reads: prompts and answers in one wording, in training as in scoring."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from actors.config.recipe import Recipe
from actors.errors import RecipeError
from actors.models.tokenizer import load_tokenizer
from actors.roles.verifier.observables import asked_format
from actors.roles.verifier.scoring import answer_in
from actors.tasks import Renderer, Task
from learner import RewardModel

Int32 = npt.NDArray[np.int32]


class Encoder:
    """Texts as token ids, by the reward model's own tokenizer and the wording of the recipe's tasks.

    Every answer ends in the token that ends a turn, whose position the score is read at; an answer that the token limit
    cut off gets one too, since the model has seen no other end. Raises RecipeError where the folder has no tokenizer,
    or one that does not fit the recipe.
    """

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        assert recipe.preferences is not None
        self._renderer = Renderer(recipe.tasks, load_tokenizer(folder))
        self._answers_alone = recipe.preferences.reads == "answer"
        self._thinks_first = asked_format(recipe) == "r1_zero"

    def prompt(self, task: Task) -> Int32:
        return np.asarray(self._renderer.render(task), np.int32)

    def answer(self, task: Task, text: str) -> Int32:
        """What is written in it is text, as it is in a completion that was decoded without special tokens."""
        return np.asarray(self._renderer.completion(task, self.read(text), literal=True), np.int32)

    def read(self, text: str) -> str:
        """What the reward model reads of a completion, as `preferences.reads` says."""
        return answer_in(text, self._thinks_first) if self._answers_alone else text


def require_room(model: RewardModel, recipe: Recipe) -> None:
    """Raises RecipeError where the longest completion alone is more than the reward model reads."""
    longest = recipe.generators.sampling.max_tokens
    if model.max_length is not None and longest + 2 > model.max_length:
        raise RecipeError(
            f"generators.sampling.max_tokens is {longest}, and the reward model reads {model.max_length} tokens at "
            "most, prompt included; lower it, or take another preferences.base"
        )
