"""How fast the parts of a fleet are: by the recipe's keys, by formulas on a data sheet, or as a run has measured it."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from actors.config.recipe import Recipe
from actors.config.roles import SyntheticConfig
from actors.engines.distributions import draw_length, task_pass_rate
from actors.errors import RecipeError
from actors.planning.architectures import ModelShape
from actors.planning.costs import decode_seconds, training_flops, update_bytes, update_seconds
from actors.planning.footprint import senders_of
from actors.planning.memory import cache_tokens, generator_device
from actors.planning.public import HARDWARE
from actors.weights.bandwidth import bandwidth

#: Completions whose lengths are drawn to know their mean.
DRAWN = 4000


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What a recipe does not say, and nobody has measured.

    Attributes:
        hardware: name in `HARDWARE`; None: h100 where the recipe asks for GPUs, else cpu.
        mfu: model FLOP utilisation of the learner. Llama 3 was pretrained at 0.38 to 0.43 (2407.21783, table 4).
        use: share of its data sheet that an engine reaches.
        mean_tokens: mean length of a completion; None: a third of the longest.
        sigma: standard deviation of the logarithm of the length.
        pass_rate, spread: as `SyntheticConfig` has them.
        verify_seconds: of one completion (s).
        step_seconds: of a step of the learner, whatever is in it (s); None: by formula.
    """

    hardware: str | None = None
    mfu: float = 0.35
    use: float = 0.5
    mean_tokens: float | None = None
    sigma: float = 0.8
    pass_rate: float = 0.5
    spread: float = 0.3
    verify_seconds: float = 0.005
    step_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Rates:
    """See `simulation.SimulatedFleet` for what is called as there.

    Attributes:
        lengths: distribution of the completions' lengths.
        longest: no completion is longer (tokens).
        mixed_share: share of the groups whose rewards differ; None: as the pass rates of `lengths` say.
        origin: what each figure comes from, line by line.
    """

    sequences: int
    rate: Callable[[int], float]
    lengths: SyntheticConfig
    longest: int
    verify_seconds: float
    step_seconds: Callable[[int], float]
    transfer_seconds: float
    pause_seconds: float
    origin: tuple[str, ...]
    mixed_share: float | None = None

    def length(self, source: random.Random) -> int:
        """A length (tokens)."""
        return min(self.longest, draw_length(self.lengths, source))

    def mixed(self, group_size: int, source: random.Random) -> bool:
        """Whether the rewards of a group of G differ, as in 1 - p^G - (1 - p)^G of a task with pass rate p they do."""
        if self.mixed_share is not None:
            return source.random() < self.mixed_share
        p = task_pass_rate(self.lengths, str(source.random()))
        return source.random() < 1 - p**group_size - (1 - p) ** group_size

    def mean_length(self) -> float:
        """Mean length of a completion (tokens)."""
        source = random.Random(0)
        return sum(self.length(source) for _ in range(DRAWN)) / DRAWN


def hardware_of(recipe: Recipe, assumed: Assumptions) -> str:
    """The name of the hardware that is assumed.

    Raises:
        RecipeError: there is no such name.
    """
    name = assumed.hardware or ("h100" if recipe.learner.gpus or recipe.generators.gpus else "cpu")
    if name not in HARDWARE:
        raise RecipeError(f"--hardware {name}: one of {', '.join(HARDWARE)}")
    return name


def rates_of(recipe: Recipe, a: ModelShape, assumed: Assumptions) -> Rates:
    """By keys and formulas.

    Raises:
        RecipeError: the hardware is not known, or the model does not fit a generator.
    """
    name = hardware_of(recipe, assumed)
    lengths, said = _lengths(recipe, assumed)
    found = Rates(
        sequences=2**31,
        rate=lambda _: lengths.tokens_per_second,
        lengths=lengths,
        longest=recipe.generators.sampling.max_tokens,
        verify_seconds=recipe.replay.group_size * assumed.verify_seconds / recipe.sandbox.workers,
        step_seconds=lambda _: assumed.step_seconds or 0.0,
        transfer_seconds=0.0,
        pause_seconds=0.0,
        origin=(said, f"verification: {assumed.verify_seconds:g} s a completion is assumed"),
    )
    if assumed.step_seconds is None:
        found = _with_learner(found, recipe, a, assumed, name)
    if recipe.generators.engine == "synthetic":
        return found  # its updates carry no bytes
    return _with_updates(_with_engine(found, recipe, a, assumed, name), recipe, a, name)


def _lengths(recipe: Recipe, assumed: Assumptions) -> tuple[SyntheticConfig, str]:
    if recipe.generators.engine == "synthetic":
        return recipe.generators.synthetic, "lengths, speed and pass rates: generators.synthetic of the recipe"
    mean = assumed.mean_tokens or recipe.generators.sampling.max_tokens / 3
    lengths = SyntheticConfig(
        mean_tokens=mean, sigma=assumed.sigma, pass_rate=assumed.pass_rate, pass_rate_spread=assumed.spread
    )
    return lengths, (
        f"lengths: log-normal with mean {mean:.0f} and sigma {assumed.sigma:g}, pass rate {assumed.pass_rate:g} are "
        "assumed"
    )


def prompt_tokens(recipe: Recipe) -> int:
    """Mean length of a prompt, of which the recipe knows the longest only: half of that (tokens)."""
    return max(1, recipe.tasks.max_prompt_tokens // 2)


def _with_learner(found: Rates, recipe: Recipe, a: ModelShape, assumed: Assumptions, name: str) -> Rates:
    hardware, learner = HARDWARE[name], recipe.learner
    devices = learner.ranks * (learner.gpus or max(1, learner.threads))
    reached = devices * hardware.flops * assumed.mfu
    prompts = recipe.replay.groups_per_batch * prompt_tokens(recipe)
    context = prompt_tokens(recipe) + found.mean_length()
    copying = 2 * update_bytes(recipe, a) / hardware.bandwidth  # the snapshot is read and written

    def step_seconds(tokens: int) -> float:
        return training_flops(recipe, a, tokens + prompts, context) / reached + copying

    said = f"learner: {devices:g} x {name} at {assumed.mfu:.0%} of {hardware.flops / 1e12:.4g} TFLOP/s"
    return replace(found, step_seconds=step_seconds, origin=(*found.origin, said))


def _with_engine(found: Rates, recipe: Recipe, a: ModelShape, assumed: Assumptions, name: str) -> Rates:
    hardware, generators = HARDWARE[name], recipe.generators
    split = generators.vllm.tensor_parallel_size
    devices = split if generators.gpus else max(1, generators.threads)
    source = random.Random(0)
    drawn = [found.length(source) for _ in range(DRAWN)]
    # a sequence is met in proportion to its length, and half-way through it in the mean
    context = prompt_tokens(recipe) + sum(length**2 for length in drawn) / sum(drawn) / 2
    cache = generator_device(a, generators, hardware.memory)["key-value cache"]
    room = int(cache_tokens(a, generators, cache) / context)
    sequences = min(generators.vllm.max_num_seqs, room, generators.groups_in_flight * recipe.replay.group_size)
    if sequences < 1:
        raise RecipeError(
            f"generators: {a.parameters / 1e9:.3g} G parameters leave no room for a key-value cache on {split} x "
            f"{name}; raise generators.vllm.tensor_parallel_size"
        )
    seconds = [
        decode_seconds(a, hardware, devices, generators.dtype, count, context, assumed.use)
        for count in range(1, sequences + 1)
    ]

    def rate(count: int) -> float:
        return 1 / seconds[count - 1]

    said = (
        f"generator: {devices} x {name} at {assumed.use:.0%} of {hardware.bandwidth / 1e12:.3g} TB/s and "
        f"{hardware.flops / 1e12:.4g} TFLOP/s, {sequences} sequences, {sequences * rate(sequences):.0f} tokens/s"
    )
    return replace(found, sequences=sequences, rate=rate, origin=(*found.origin, said))


def _with_updates(found: Rates, recipe: Recipe, a: ModelShape, name: str) -> Rates:
    hardware, count = HARDWARE[name], update_bytes(recipe, a)
    measured = bandwidth(recipe.output)
    speed = measured.bytes_per_second if measured else hardware.network
    senders, receiver = senders_of(recipe), max(speed, hardware.network)  # no slower than what was seen to arrive
    source = f"measured by {measured.measured}" if measured else f"as {hardware.source} says"
    said = f"weights: one broadcast at {speed / 1e9:.3g} GB/s, {source}"
    if senders > 1:
        said = (
            f"weights: {senders} senders at once, {speed / 1e9:.3g} GB/s each, {source}; a generator takes in all of "
            f"it, and no more than {receiver / 1e9:.3g} GB/s: {min(senders, receiver / speed):.3g} times as fast as one"
        )
    return replace(
        found,
        transfer_seconds=update_seconds(count, senders, speed, receiver),
        pause_seconds=count / recipe.generators.vllm.tensor_parallel_size / hardware.host,
        origin=(*found.origin, said),
    )
