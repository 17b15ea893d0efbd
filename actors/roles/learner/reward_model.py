"""The reward model's training, before the reinforcement learning begins."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from actors.config.recipe import Recipe
from actors.errors import RecipeError
from actors.events import RewardModelDone
from actors.roles.scorer.batching import Int32
from actors.roles.scorer.encoder import Encoder, require_room
from actors.storage.inputs import local
from actors.tasks import Pair, TaskStream, hold_out, read_pairs
from learner import RewardModel, evaluate_preferences
from learner import train_reward_model as train_on_pairs

log = logging.getLogger(__name__)

Encoded = tuple[Int32, Int32, Int32]  # prompt, chosen, rejected


def train_reward_model(
    recipe: Recipe,
    model: Path,
    stream: TaskStream,
    folder: Path,
    say: Callable[[str], None],
    stopped: Callable[[], bool] = lambda: False,
) -> RewardModelDone | None:
    """Train on the recipe's pairs and write the reward model to `folder`; `model` is the run's own.

    Returns the event that tells how good it is on the held-out pairs; None, and nothing is written, where `stopped`
    says so meanwhile. Raises RecipeError where the pairs cannot be used.
    """
    config = recipe.preferences
    assert config is not None and config.pairs is not None
    base = model if config.base is None else local(config.base)
    pairs = [pair for pair in read_pairs(config.pairs) if not stream.is_held_out(pair.task.messages)]
    reward_model = RewardModel(recipe.learner, base, recipe.seed)
    require_room(reward_model, recipe)
    encoder = Encoder(recipe, base)
    telling = [pair for pair in pairs if encoder.read(pair.chosen) != encoder.read(pair.rejected)]
    if pairs and not telling:
        raise RecipeError(
            f"{config.pairs}: no two answers differ after their thoughts, of which preferences.reads: answer sees "
            "nothing; they end with </think>; or set preferences.reads: response"
        )
    alike, pairs = len(pairs) - len(telling), telling
    sides = hold_out(pairs, lambda pair: pair.task, config.held_out, "preferences.held_out")
    train, held_out = (_encoded(side, encoder, reward_model) for side in sides)
    skipped = len(pairs) - len(train) - len(held_out)
    if not train or not held_out:
        raise RecipeError(
            f"{config.pairs}: nearly all of its pairs are longer than the {reward_model.max_length} tokens that the "
            "reward model reads; shorten them, or take another preferences.base"
        )
    say(f"{len(train)} pairs, {len(held_out)} held out" + _left_out(skipped, alike))
    latest: dict[str, float] = {}

    def check(step: int) -> bool:
        say(f"step {step}: loss {latest['loss']:.3g} nats a pair, {latest['held_out_loss']:.3g} on held-out pairs")
        return stopped()

    statistics = train_on_pairs(
        reward_model, train, config.supervised, check, lambda _, found: latest.update(found), held_out
    )
    if stopped():
        return None
    found = evaluate_preferences(reward_model, held_out)
    reward_model.export(folder)
    return RewardModelDone(
        steps=int(statistics["steps"]), pairs=len(train), skipped=skipped, held_out=len(held_out), **found
    )


def _left_out(too_long: int, alike: int) -> str:
    counts = {"too long": too_long, "of one answer": alike}
    return "".join(f", {count} {why}" for why, count in counts.items() if count)


def _encoded(pairs: Sequence[Pair], encoder: Encoder, model: RewardModel) -> list[Encoded]:
    """The pairs that the model can read whole."""
    encoded = (
        (encoder.prompt(p.task), encoder.answer(p.task, p.chosen), encoder.answer(p.task, p.rejected)) for p in pairs
    )
    return [pair for pair in encoded if model.fits(*pair)]
