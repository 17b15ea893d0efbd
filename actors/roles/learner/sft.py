"""The supervised start: examples, and the accuracy that ends it."""

import logging
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from actors.config.recipe import Recipe
from actors.engines.tokens import end_tokens
from actors.engines.transformers import generate
from actors.errors import RunError
from actors.models.tokenizer import load_tokenizer
from actors.tasks import Renderer, Task, TaskStream, addition_traces, file_traces, hold_out
from learner import Trainer, train_sft
from learner.sft import Example
from sandbox import Pool, Submission

log = logging.getLogger(__name__)

Pair = tuple[Task, str]  # a task, and the completion to imitate


class ColdStartStoppedError(RunError):
    """The run was stopped in its cold start, of which no checkpoint is made: it would be taken for the whole."""


def cold_start(
    recipe: Recipe,
    trainer: Trainer,
    model: Path,
    stream: TaskStream,
    say: Callable[[str], None],
    stopped: Callable[[], bool] = lambda: False,
) -> dict[str, float]:
    """Train on the recipe's traces until the development tasks are answered as well as it asks, the held-out loss
    stops falling, or the epochs end; `say` is told how it goes. The loss is measured on the examples of
    `cold_start.held_out` tasks, those whose prompts have the lowest hash (`actors.tasks.hold_out`).

    Returns:
        The statistics of `learner.train_sft`.

    Raises:
        RecipeError: if the traces cannot be used.
        ColdStartStoppedError: `stopped` says so after a step.
    """
    config = recipe.cold_start
    assert config is not None
    tokenizer = load_tokenizer(model)
    renderer = Renderer(recipe.tasks, tokenizer)
    ends = end_tokens(model, tokenizer)
    traces = addition_traces(stream) if config.traces == "addition" else file_traces(config.traces, stream)
    demonstrated = list(islice(traces, config.examples))
    sides = hold_out(demonstrated, lambda pair: pair[0], config.held_out, "cold_start.held_out")
    examples, held_out = (list(_examples(side, renderer)) for side in sides)
    development = stream.development(config.development) if config.stop_at_accuracy is not None else ()
    latest: dict[str, float] = {}

    def good_enough(step: int) -> bool:
        text = f"step {step}: loss {latest['loss']:.3f} nats a token"
        if held_out:
            text += f", {latest['held_out_loss']:.3f} on {len(held_out)} held-out examples"
        if config.stop_at_accuracy is None:
            say(text)
            return False
        accuracy = _accuracy(recipe, trainer, tokenizer, renderer, development, ends)
        say(f"{text}; {accuracy:.0%} of {len(development)} development tasks, until {config.stop_at_accuracy:.0%}")
        return accuracy >= config.stop_at_accuracy

    def keep_on(_: int, statistics: dict[str, float]) -> None:
        latest.update(statistics)
        if stopped():
            raise ColdStartStoppedError("the run was stopped in its cold start")

    return train_sft(
        trainer,
        examples,
        config.supervised,
        should_stop=good_enough,
        on_step=keep_on,
        held_out=held_out,
    )


def _examples(traces: Iterable[Pair], renderer: Renderer) -> Iterator[Example]:
    """Prompts and completions as a generator would write them, each completion with the end of its turn."""
    for task, answer in traces:
        yield np.asarray(renderer.render(task), np.int32), np.asarray(renderer.completion(task, answer), np.int32)


def _accuracy(
    recipe: Recipe, trainer: Trainer, tokenizer: Any, renderer: Renderer, tasks: tuple[Task, ...], ends: list[int]
) -> float:
    """Share of the tasks answered rightly, one sample each, sampled as evaluations are."""
    prompts = [renderer.render(task) for task in tasks]
    trainer.model.eval()
    sampled = generate(trainer.model, tokenizer, prompts, recipe.evaluation_sampling, ends, trainer.version)
    trainer.model.train()
    submissions = [Submission(t.verifier, s.text, t.reference) for t, s in zip(tasks, sampled, strict=True)]
    with Pool(recipe.sandbox, recipe.rewards) as pool:
        verdicts = pool.score(submissions, recipe.verifiers.deadline_seconds)
    return sum(v.parts.get("accuracy", 0.0) for v in verdicts) / len(verdicts)
