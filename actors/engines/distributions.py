"""What the synthetic engine samples, without an engine: lengths of completions, and how hard tasks are."""

import math
import random
import zlib

from actors.config.roles import SyntheticConfig


def draw_length(config: SyntheticConfig, source: random.Random) -> int:
    """A length (tokens, at least 1) from the configured distribution, whose mean is `mean_tokens` in either form."""
    mean = config.mean_tokens
    if config.lengths == "pareto":
        shortest = mean * (config.tail_index - 1) / config.tail_index
        return max(1, round(shortest * source.paretovariate(config.tail_index)))
    return max(1, round(source.lognormvariate(math.log(mean) - config.sigma**2 / 2, config.sigma)))


def task_pass_rate(config: SyntheticConfig, prompt: str) -> float:
    """The pass rate of a task: from a Beta distribution with mean `pass_rate`, always the same for the same prompt."""
    mean, spread = config.pass_rate, config.pass_rate_spread
    if spread == 0 or mean in (0, 1):
        return mean
    source = random.Random(zlib.crc32(prompt.encode()))
    if spread == 1:
        return float(source.random() < mean)
    concentration = 1 / spread - 1  # the variance of such a Beta is spread * mean * (1 - mean)
    return source.betavariate(mean * concentration, (1 - mean) * concentration)
