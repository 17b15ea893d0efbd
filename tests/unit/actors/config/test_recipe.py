"""The tree of a recipe: frozen, documented, and without keys that contradict each other."""

from pathlib import Path

import pytest

from actors.config.loading import dump, load
from actors.config.recipe import Recipe
from actors.config.roles import SamplingConfig
from actors.errors import RecipeError

QUICKSTART = Path(__file__).parents[4] / "recipes" / "quickstart.yaml"


def test_evaluations_may_be_as_long_as_training_unless_they_say_otherwise(tmp_path: Path) -> None:
    raised = load(QUICKSTART, ["generators.sampling.max_tokens=40"])
    assert raised.evaluation_sampling == SamplingConfig(temperature=0.6, top_p=0.95, max_tokens=40)
    (tmp_path / "recipe.yaml").write_text(dump(raised))
    resumed = load(tmp_path / "recipe.yaml", ["generators.sampling.max_tokens=30"])
    assert resumed.evaluation_sampling.max_tokens == 30, "a dump changed what was not said into something that was"
    own = load(QUICKSTART, ["generators.sampling.max_tokens=40", "evaluation.sampling.max_tokens=20"])
    assert own.evaluation_sampling.max_tokens == 20
    assert load(tmp_path / "recipe.yaml").evaluation_sampling == raised.evaluation_sampling


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("{max_tokens: 20}", (0.6, 0.95, 20)),
        ("{temperature: 1.0}", (1.0, 0.95, 48)),
        ("{top_p: 1.0}", (0.6, 1.0, 48)),
        ("{temperature: 1.0, top_p: 0.5, max_tokens: 9}", (1.0, 0.5, 9)),
    ],
)
def test_one_key_of_an_evaluations_sampling_leaves_the_others_as_documented(
    said: str, meant: tuple[float, float, int]
) -> None:
    sampling = load(QUICKSTART, [f"evaluation.sampling={said}"]).evaluation_sampling
    assert (sampling.temperature, sampling.top_p, sampling.max_tokens) == meant


def test_the_tree_is_frozen() -> None:
    recipe = load(QUICKSTART)
    with pytest.raises(Exception, match="frozen"):
        recipe.steps = 5  # type: ignore[misc]


def test_every_field_is_documented() -> None:
    missing: list[str] = []

    def walk(schema: dict, path: str) -> None:
        for name, field in schema.get("properties", {}).items():
            described = "description" in field
            constant = "const" in field
            if not (described or constant):
                missing.append(f"{path}.{name}")

    schema = Recipe.model_json_schema()
    walk(schema, "recipe")
    for name, definition in schema["$defs"].items():
        walk(definition, name)
    assert missing == []


OFFLOAD = "learner.optimizer.offload=cpu"
JUDGE = "{url: http://judge:8000/v1/, model: m}"


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["generators.groups_in_flight=5000"], r"generators\.groups_in_flight: .* less than or equal to 4096"),
        (["evaluation.samples_between=5000"], r"evaluation\.samples_between: .* less than or equal to 4096"),
        (["cold_start.supervised.patience=2"], "needs held_out above 0"),
        (["learner.ranks=2"], "generates with the whole model"),
        (["preferences.weight=0.5"], "either pairs"),
        (["preferences.pairs=a.jsonl", "preferences.reward_model=b"], "either pairs"),
        (["preferences.reward_model=b", "preferences.base=c", "preferences.held_out=9"], "base and held_out would be"),
        (["preferences.reward_model=b", "preferences.supervised.epochs=3"], "supervised would be ignored"),
        (["preferences.pairs=a.jsonl", "preferences.weight=0"], r"preferences\.weight: .* greater than 0"),
        (["preferences.pairs=a.jsonl", "preferences.clip=0"], r"preferences\.clip: .* greater than 0"),
        (["preferences.pairs=a.jsonl", "replay.group_size=1"], "set 2 or more"),
        (["preferences.pairs=a.jsonl", f"preferences.judge={JUDGE}"], "either pairs"),
        ([f"preferences.judge={JUDGE}", "preferences.dtype=bfloat16"], "judge needs no training, so dtype would be"),
        ([f"preferences.judge={JUDGE}", "preferences.reads=answer"], "judge needs no training, so reads would be"),
        ([f"preferences.judge={JUDGE}", "preferences.judge.timeout_seconds=20"], r"timeout_seconds is 20, and a group"),
        (["autoscale.scorers.max=2"], r"autoscale\.scorers would be ignored, since this run has no scorers"),
        ([f"preferences.judge={JUDGE}", "autoscale.scorers.max=2"], r"autoscale\.scorers would be ignored"),
        (["rewards.format=none"], r"rewards: weights\.format needs format"),
        (["rewards.weights.language=1"], r"weights\.language needs language"),
        (["rewards.weights.overlong=1"], r"weights\.overlong needs overlong_max_tokens"),
        (["rewards.weights.repetition=1"], r"weights\.repetition needs repetition_ngram"),
        (["learner.device=cuda"], r"learner\.device: cuda needs learner\.gpus"),
        ([OFFLOAD, "learner.gpus=1"], "with device: cpu everything is in host memory already"),
        ([OFFLOAD, "learner.device=auto"], r"stop_at_accuracy generates .*offload likewise"),
        (
            [OFFLOAD, "learner.device=auto", "cold_start=null"],
            r"learner\.optimizer\.offload: cpu needs learner\.gpus, which is 0",
        ),
    ],
)
def test_what_would_be_ignored_or_count_twice_is_refused(overrides: list[str], says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        load(QUICKSTART, overrides)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("url=judge:8000", r"preferences\.judge\.url: must be where an API begins"),
        ("url=http://judge/v1/chat/completions", "no single part of it"),
        ("url=http://me:secret-word@judge/v1", "has a user, a password or a signature"),
        ("url=http://judge:eight/v1", r"preferences\.judge\.url: "),
        ("api_key_env=sk-secret-word", "the name of an environment variable, such as JUDGE_API_KEY, and never the key"),
        ("criteria={kind: 'is {respnse} kind?'}", r"kind: nothing is known as \{respnse\}; use \{prompt\}"),
        ("criteria={kind: 'is it kind?'}", r"kind: shows the judge neither \{answer\} nor \{response\}"),
        ("criteria={}", "1 or more entries"),
        ("pattern='[0-9]+'", "needs one group, which is the score, and has 0"),
        ("pattern='(['", "is no regular expression"),
        ("scale=[5, 1]", "5 is not below 1"),
        ("extra_body={temperature: 1}", "temperature is set already"),
        ("api_key=secret-word", r"there is no such key; did you mean preferences\.judge\.api_key_"),
    ],
)
def test_a_judge_that_could_not_be_asked_is_refused(override: str, says: str) -> None:
    key, _, _ = override.partition("=")
    with pytest.raises(RecipeError, match=says) as caught:
        load(QUICKSTART, [f"preferences.judge={JUDGE}", f"preferences.judge.{override}"])
    assert key in str(caught.value)


def test_digits_alone_have_log_probabilities() -> None:
    recipe = load(QUICKSTART, [f"preferences.judge={JUDGE}", "preferences.judge.score=logprobs"])
    assert recipe.preferences is not None and recipe.preferences.judge is not None
    assert recipe.preferences.judge.url == "http://judge:8000/v1"
    ten = [f"preferences.judge={JUDGE}", "preferences.judge.score=logprobs", "preferences.judge.scale=[1, 10]"]
    with pytest.raises(RecipeError, match="scale has to lie within 0 and 9"):
        load(QUICKSTART, ten)


def test_preferences_that_no_source_has_would_be_part_of_no_reward() -> None:
    preferences = ["preferences.pairs=pairs.jsonl"]
    assert load(QUICKSTART, preferences).preferences is not None
    with pytest.raises(RecipeError, match=r"no entry of tasks\.sources has preferences: true"):
        load(QUICKSTART, [*preferences, "tasks.sources.0.preferences=false"])
    load(QUICKSTART, ["tasks.sources.0.preferences=false"])  # another stage of the pipeline may have preferences
