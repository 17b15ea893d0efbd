"""Which speculative decoding a run takes: what changes when tokens come, and neither which nor their log-probabilities.

vLLM verifies guessed tokens by rejection (Leviathan et al. 2023, section 2.3), which keeps the distribution. Guesses by
n-grams of the sequence itself are taken; `tests/e2e/test_speculative_decoding.py` holds a real engine to it, with a
kernel of vLLM's that we mend (`actors.weights.plugin`). What else vLLM has is refused:

- Draft models, EAGLE, Medusa and MTP heads have weights of their own, which no update of ours carries: they fall behind
  the policy with every step, and a swap of the weights leaves the cache that they read as it is.
- `synthetic` acceptance keeps guesses at given rates, whatever the model says: another distribution.
- A guess that is verified uses random numbers up. Whether one is depends on what else the engine holds (its budget of
  tokens, preemption), so that a seed need not decide a completion.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from actors.config import engine_arguments, validation
from actors.config.base import Section
from actors.config.recipe import Recipe

KEY = f"{engine_arguments.KEY}.speculative_config"


class NgramDrafts(Section):
    """What is taken of vLLM's `SpeculativeConfig`, by its names. Without lengths of n-grams vLLM looks for 5 tokens."""

    method: Literal["ngram"]
    num_speculative_tokens: int = Field(ge=1, le=128)
    prompt_lookup_min: int | None = Field(None, ge=1)
    prompt_lookup_max: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        shortest, longest = self.prompt_lookup_min, self.prompt_lookup_max
        if shortest is not None and longest is not None and shortest > longest:
            raise ValueError(f"prompt_lookup_min is {shortest}, and prompt_lookup_max {longest}; swap them")
        return self


def problems(recipe: Recipe) -> Iterator[str]:
    """What of the recipe's speculative decoding is refused, with its key."""
    if recipe.generators.engine != "vllm":
        return
    given = recipe.generators.vllm.engine_args.get("speculative_config")
    if given is None:
        return
    if not isinstance(given, Mapping):
        yield f"{KEY}: must be a mapping, with method: ngram"
        return
    yield from _refused(given)
    if recipe.learner.router_replay:
        yield f"{KEY}: which experts guessed tokens went to was not tested; leave it out, or learner.router_replay"
    if recipe.seeded:
        yield (
            f"{KEY}: guesses use random numbers up, so that a seed need not decide a completion; "
            "set generators.seeded: false and give up that the run can be repeated, or leave it out"
        )


def _refused(given: Mapping[str, Any]) -> Iterator[str]:
    if given.get("method") != "ngram":
        yield (
            f"{KEY}.method: must be ngram, not {validation.quoted(given.get('method'))}; other methods guess with "
            "weights that no update changes"
        )
        return
    try:
        NgramDrafts.model_validate(dict(given))
    except ValidationError as error:
        for problem in validation.problems(error, NgramDrafts):
            yield f"{KEY}{f'.{problem.key}' if problem.key else ''}: {problem.text}"
