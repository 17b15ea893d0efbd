"""A recipe is read exactly, and what is wrong with it is said in one line."""

from pathlib import Path

import pytest
import yaml

from actors.config.loading import dump, load, parse
from actors.config.pipeline import is_pipeline
from actors.config.recipe import Recipe
from actors.config.tasks import DatasetSource
from actors.errors import RecipeError

FILES = sorted((Path(__file__).parents[4] / "recipes").glob("*.yaml"))
RECIPES = [path for path in FILES if not is_pipeline(path)]
QUICKSTART = Path(__file__).parents[4] / "recipes" / "quickstart.yaml"


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_every_recipe_is_whole_and_survives_a_round_trip(path: Path, tmp_path: Path) -> None:
    recipe = load(path)
    assert parse(yaml.safe_load(dump(recipe)), "again") == recipe
    (tmp_path / "recipe.yaml").write_text(dump(recipe))
    assert load(tmp_path / "recipe.yaml") == recipe


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("learner.optimizer.learning_rate=fast", "learner.optimizer.learning_rate: must be a valid number, not 'fast'"),
        ("replay.max_staleness=-1", "replay.max_staleness: must be greater than or equal to 0, not -1"),
        ("replay.group_size=null", "replay.group_size: must be a whole number, not null"),
        ("membership.timeout_seconds=.inf", "membership.timeout_seconds: must be a finite number, not inf"),
        ("learner.optimizer.learning_rate=1e400", "learner.optimizer.learning_rate: must be a finite number, not inf"),
        ("sandbox.start_seconds=.inf", "sandbox.start_seconds: must be a finite number, not inf"),
        ("steps", "write key=value"),
        ("=3", "write key=value"),
        ("a..b=3", "write key=value"),
        ("steps=[", "line 1, column 2"),
        ("name={a: 1, a: 2}", "a stands twice"),
        ("steps.more=1", "steps is not a section"),
        ("weights.backend=nccl", "nccl needs generators.gpus"),
        ("name=../../etc", "name"),
        ("learner.objective.name=ppo", "learner.objective.name: must be 'grpo', 'dr_grpo'"),
        ("generators.vllm.prefix_cache=maybe", "must be 'off', 'per_version' or 'across_versions', not 'maybe'"),
        ("cold_start.traces=5", "cold_start.traces: must be 'addition' or be a path, not 5"),
        ("model.kind=huge", "model.kind: must be one of 'folder', 'tiny', 'smollm2', not 'huge'"),
        ("model={}", "model.kind: is missing"),
        ("model=null", "model: must be a section"),
        ("tasks.sources.0.source=jsonl", "tasks.sources.0.path: is missing"),
        ("tasks.sources.1.digits=3", "tasks.sources has 1 entry;"),
        ("tasks.sources[0].digits=3", "-s tasks.sources[0].digits=3: write tasks.sources.0.digits"),
        ("tasks.sources=[]", "tasks.sources: must have 1 or more entries, not 0"),
        ("tasks.sources.0.verifier=math", "there is no such key; `addition` has weight, preferences, digits"),
        ("learner.optimizer.betas=fast", "learner.optimizer.betas: must be a list, not 'fast'"),
        ("name=Über", "name: must be lower-case letters, digits, '.', '_' and '-'"),
        ("replay.drop_zero_variance=maybe", "replay.drop_zero_variance: must be true or false, not 'maybe'"),
        ("replay.group_size=1.5", "replay.group_size: must be a whole number, not 1.5"),
        ("learner.threads=true", "learner.threads: must be a number, not true"),
        ("learner.optimizer.betas=[0.9, true]", "learner.optimizer.betas.1: must be a number, not true"),
        ("replay={1: 2}", "keys are words"),
        ("tasks.sources=[{source: reasoning_gym, family: chain_sum, options: {1: 2}}]", "keys are words"),
        ("network.advertise=[::1]", "-s network.advertise=[::1]: write the address without brackets"),
        ("network.advertise=[fe80::1]", "network.advertise: must be an IPv4 or IPv6 address, without brackets"),
        ("lerner.threads=2", "-s lerner.threads=2: lerner: there is no such key; did you mean learner?"),
    ],
)
def test_a_wrong_value_is_answered_with_its_key_what_may_stand_there_and_what_does(override: str, says: str) -> None:
    with pytest.raises(RecipeError) as error:
        load(QUICKSTART, [override])
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("replay.max_stalenes", "replay.max_staleness"),
        ("learner.learning_rate", "learner.optimizer.learning_rate"),
        ("cold_start.learning_rate", "cold_start.supervised.learning_rate"),
        ("model.layer", "model.layers"),
        ("tasks.sources.0.digit", "tasks.sources.0.digits"),
        ("max_staleness", "replay.max_staleness"),
        ("generators.max_model_len", "generators.vllm.max_model_len"),
        ("step", "steps"),
    ],
)
def test_an_unknown_key_names_the_nearest_one(key: str, near: str) -> None:
    with pytest.raises(RecipeError) as error:
        load(QUICKSTART, [f"{key}=1"])
    assert str(error.value).endswith(f"{key}: there is no such key; did you mean {near}?")
    assert str(error.value).startswith(f"-s {key}=1: ")


def test_a_misspelt_key_that_is_needed_is_not_missing_as_well(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(QUICKSTART.read_text().replace("\nsteps:", "\nstpes:"))
    with pytest.raises(RecipeError) as error:
        load(path)
    assert str(error.value) == f"{path}: stpes: there is no such key; did you mean steps?"


def test_three_problems_are_named_with_where_they_come_from(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("xyzzy: 1\n1: 2\n")
    with pytest.raises(RecipeError, match=r"1: keys are words$"):
        load(path)
    path.write_text("xyzzy: 1\n")
    with pytest.raises(RecipeError) as error:
        load(path, ["steps=-1"])
    assert str(error.value) == (
        f"{path}: xyzzy: there is no such key; name: is missing; "
        f"-s steps=-1: steps: must be greater than or equal to 0, not -1 (and 2 more)"
    )


def test_a_key_like_no_other_has_no_nearest_one() -> None:
    with pytest.raises(RecipeError, match=r"there is no such key$"):
        load(QUICKSTART, ["xyzzy=1"])


def test_overrides_are_yaml() -> None:
    recipe = load(
        QUICKSTART,
        [
            "learner.optimizer.learning_rate=1e-5",
            "cold_start=null",
            "replay.max_staleness=0",
            "generators.vllm.prefix_cache=off",
            "replay.drop_zero_variance=off",
            "tasks.sources.0.digits=2",
            "learner.lora.rank=4",
        ],
    )
    assert recipe.learner.optimizer.learning_rate == 1e-5
    assert recipe.cold_start is None
    assert recipe.replay.max_staleness == 0
    assert recipe.generators.vllm.prefix_cache == "off"
    assert recipe.replay.drop_zero_variance is False
    assert recipe.tasks.sources[0].digits == 2
    assert recipe.learner.lora is not None
    assert recipe.learner.lora.rank == 4


def test_an_override_changes_one_of_two_places_that_share_an_anchor(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    text = QUICKSTART.read_text().replace("  sampling: {", "  sampling: &sampling {", 1)
    path.write_text(
        text.replace("  sampling: {temperature: 0.6, top_p: 0.95, max_tokens: 48}", "  sampling: *sampling")
    )
    recipe = load(path, ["evaluation.sampling.temperature=0.5"])
    assert (recipe.generators.sampling.temperature, recipe.evaluation.sampling.temperature) == (1.0, 0.5)


@pytest.mark.parametrize("content", [b"a: [", b"- 1", b"", b"\x00", b"name: caf\xe9", b"1: 2", b"a: 1\na: 2"])
def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=r"bad\.yaml") as error:
        load(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("name", "says"), [("no-such-file.yaml", "no-such-file"), ("", "directory")])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        load(tmp_path / name)


def test_paths_are_relative_to_the_current_directory_and_resolved_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    recipe = load(
        QUICKSTART,
        [
            "tasks.sources=[{source: jsonl, path: tasks.jsonl}]",
            "cold_start.traces=traces.jsonl",
            "preferences.pairs=../pairs.jsonl",
            "preferences.base=base",
            "model={kind: folder, path: model}",
            "learner.inspection_folder=inspection",
        ],
    )
    (tmp_path / "recipe.yaml").write_text(dump(recipe))
    monkeypatch.chdir(tmp_path)
    again = load(tmp_path / "recipe.yaml")
    assert again == recipe
    here = tmp_path / "here"
    assert again.tasks.sources[0].path == here / "tasks.jsonl"
    assert again.cold_start is not None
    assert again.cold_start.traces == here / "traces.jsonl"
    assert again.preferences is not None
    assert (again.preferences.pairs, again.preferences.base) == (here / "../pairs.jsonl", here / "base")
    assert (again.model.path, again.output) == (str(here / "model"), here / "runs")
    assert again.learner.inspection_folder == str(here / "inspection")


def test_a_name_on_the_hub_and_the_word_addition_are_no_paths() -> None:
    recipe = load(QUICKSTART, ["model={kind: folder, path: Qwen/Qwen2.5-1.5B}"])
    assert recipe.model.path == "Qwen/Qwen2.5-1.5B"
    assert recipe.cold_start is not None
    assert recipe.cold_start.traces == "addition"


def test_a_resolved_tree_reads_as_a_recipe() -> None:
    recipe = load(QUICKSTART)
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe


def test_a_data_set_that_is_a_folder_here_is_found_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "copies" / "gsm8k").mkdir(parents=True)
    for name, read in (("copies/gsm8k", str(tmp_path / "copies" / "gsm8k")), ("openai/gsm8k", "openai/gsm8k")):
        (source,) = load(
            QUICKSTART, [f"tasks.sources=[{{source: datasets, name: {name}}}]", "cold_start=null"]
        ).tasks.sources
        assert isinstance(source, DatasetSource)
        assert source.name == read


def test_a_uri_stays_as_it_is_where_a_path_becomes_absolute() -> None:
    for key in ("cold_start.traces", "preferences.reward_model", "preferences.base"):
        sections = ["preferences.pairs=pairs.jsonl"] if key == "preferences.base" else []
        recipe = load(QUICKSTART, [*sections, f"{key}=s3://bucket/a//b"])
        section, name = key.split(".")
        assert getattr(getattr(recipe, section), name) == "s3://bucket/a//b"
        assert parse(yaml.safe_load(dump(recipe)), "again") == recipe
    recipe = load(QUICKSTART, ["tasks.sources=[{source: jsonl, path: gs://bucket/train.jsonl}]"])
    assert recipe.tasks.sources[0].path == "gs://bucket/train.jsonl"  # type: ignore[union-attr]
    assert load(QUICKSTART, ["model={kind: folder, path: s3://bucket/a}"]).model.uri == "s3://bucket/a"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "override",
    ["cold_start.traces={}", "tasks.sources=[{{source: jsonl, path: {}}}]", "model={{kind: folder, path: '{}'}}"],
)
def test_a_uri_that_shows_a_secret_is_refused_and_a_wrong_kind_of_value_is_no_location(override: str) -> None:
    with pytest.raises(RecipeError, match="has a user, a password or a signature in it"):
        load(QUICKSTART, [override.format("s3://KEY:SECRET@bucket/a")])
    with pytest.raises(RecipeError, match=r"must be .*, not 3"):
        load(QUICKSTART, [override.format("3").replace("'", "")])
