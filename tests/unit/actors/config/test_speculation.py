"""Which guesses of tokens a recipe may ask vLLM for."""

from pathlib import Path

import pytest

from actors.config.checks import problems
from actors.config.loading import load

QUICKSTART = Path(__file__).parents[4] / "recipes" / "quickstart.yaml"
SPECULATION = "generators.vllm.engine_args.speculative_config"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("{method: mtp, num_speculative_tokens: 1}", f"{SPECULATION}.method: must be ngram, not 'mtp'"),
        ("{model: draft, num_speculative_tokens: 1}", f"{SPECULATION}.method: must be ngram, not null"),
        ("ngram", f"{SPECULATION}: must be a mapping"),
        ("{method: ngram}", f"{SPECULATION}.num_speculative_tokens: is missing"),
        ("{method: ngram, num_speculative_tokens: 0}", f"{SPECULATION}.num_speculative_tokens: must be greater than"),
        (
            "{method: ngram, num_speculative_tokens: 3, rejection_sample_method: synthetic}",
            f"{SPECULATION}.rejection_sample_method: there is no such key",
        ),
        (
            "{method: ngram, num_speculative_tokens: 3, prompt_lookup_min: 4, prompt_lookup_max: 3}",
            f"{SPECULATION}: prompt_lookup_min is 4, and prompt_lookup_max 3",
        ),
    ],
)
def test_guesses_that_would_change_what_is_sampled_are_refused(given: str, says: str) -> None:
    (problem,) = found(f"generators.vllm.engine_args={{speculative_config: {given}}}")
    assert says in problem and "\n" not in problem
    assert found(f"generators.vllm.engine_args={{speculative_config: {given}}}", "generators.engine=transformers") == []


def test_n_grams_are_guesses_that_are_taken_where_no_seed_decides() -> None:
    guesses = "generators.vllm.engine_args={speculative_config: {method: ngram, num_speculative_tokens: 3}}"
    assert found(guesses) == []
    for seeded in ("replay.max_staleness=0", "generators.seeded=true"):
        (problem,) = found(guesses, seeded)
        assert problem.startswith(f"{SPECULATION}: ") and "set generators.seeded: false" in problem
    assert found(guesses, "replay.max_staleness=0", "generators.seeded=false") == []
    assert any("not tested; leave it out" in problem for problem in found(guesses, "learner.router_replay=true"))


def found(*overrides: str) -> list[str]:
    return problems(load(QUICKSTART, overrides))
