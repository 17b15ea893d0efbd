"""What a recipe alone, and the files it names, show to be wrong."""

import json
from pathlib import Path
from typing import Any

import pytest

from actors.config.checks import problems
from actors.config.loading import load
from actors.errors import RecipeError

RECIPES = Path(__file__).parents[4] / "recipes"
QUICKSTART = RECIPES / "quickstart.yaml"
JUDGE = "{url: 'http://judge', model: m, api_key_env: NO_SUCH_KEY}"
PREFIXES = ("generators.vllm.prefix_cache=per_version",)
MAXRL = "learner.objective.name=maxrl"


def found(*overrides: str, resumed: bool = False) -> list[str]:
    return problems(load(QUICKSTART, ["learner.objective.name=grpo", *overrides]), resumed=resumed)


def model(folder: Path, **config: Any) -> str:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    return f"model={{kind: folder, path: {folder}}}"


@pytest.mark.parametrize("name", ["quickstart", "smollm2-arithmetic", "gsm8k-qwen2.5-1.5b"])
def test_the_recipes_are_right(name: str) -> None:
    assert problems(load(RECIPES / f"{name}.yaml")) == []


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (
            ["tasks.sources=[{source: datasets, name: a/b, verifier: maths}]", "cold_start=null"],
            "tasks.sources.0.verifier: no verifier is called 'maths'; known are ",
        ),
        (
            ["tasks.sources=[{source: datasets, name: a/b, verifier: stdio}]", "cold_start=null"],
            "tasks.sources.0.verifier: stdio reads checker, ",
        ),
        (
            ["generators.vllm.engine_args={max_model_len: 90}"],
            "together more than 90, which is generators.vllm.engine_args.max_model_len; lower tasks.max_prompt_tokens",
        ),
        (["rewards.language=xx"], "rewards.language: language 'xx' is not supported: use one of en, fr,"),
        (
            ["tasks.sources=[{source: jsonl, path: /no/such/file.jsonl}]", "cold_start=null"],
            "tasks.sources.0.path: there is no file /no/such/file.jsonl",
        ),
        (
            ["tasks.sources=[{source: gsm8k, path: /}]", "cold_start=null"],
            "tasks.sources.0.path: / is no file",
        ),
        (["cold_start.traces=/no/such/traces.jsonl"], "cold_start.traces: there is no file /no/such/traces.jsonl"),
        (
            ["tasks.sources=[{source: reasoning_gym, family: chain_sum}]"],
            "cold_start.traces: addition is for sums, and tasks.sources has no source `addition`",
        ),
        (["cold_start.development=500"], "cold_start.development: 500 tasks are asked for"),
        (["model={kind: folder, path: /no/such/model}"], "model.path: there is no folder /no/such/model"),
        (["model={kind: folder, path: word}"], "model.path: there is no folder word"),
        (["model={kind: folder, path: /}"], "model.path: / holds no config.json"),
        (["generators.vllm.max_model_len=512"], "generators.vllm.max_model_len is 512, and model.max_length 256"),
        (["generators.sampling.max_tokens=128"], "generators.sampling.max_tokens is 128, which leaves no room"),
        (["evaluation.sampling.max_tokens=49"], "together more than 128, which is generators.vllm.max_model_len"),
        (["tasks.max_prompt_tokens=81"], "lower tasks.max_prompt_tokens to 80"),
        (["replay.group_size=1"], "replay.group_size is 1"),
        (
            [MAXRL, "rewards.overlong_max_tokens=40", "rewards.overlong_cache_tokens=8", "rewards.weights.overlong=1"],
            "which rewards.weights.overlong can make negative; set learner.objective.name: grpo",
        ),
        ([MAXRL, "rewards.weights.format=-0.1"], "which rewards.weights.format can make negative"),
        ([MAXRL, "preferences.pairs=/no/such/pairs.jsonl"], "which preferences can make negative"),
        (["rewards.weights={accuracy: 0, format: 0}"], "rewards.weights: all are 0"),
        (["generators.count=0"], "generators.count is 0"),
        (["generators.count=0", "network.joining=[verifier]"], "generators.count is 0"),
        (["verifiers.count=0"], "verifiers.count is 0"),
        (["cold_start.traces=additon"], "did you mean addition?"),
        (["preferences.pairs=/no/such/pairs.jsonl"], "preferences.pairs: there is no file /no/such/pairs.jsonl"),
        ([f"preferences.judge={JUDGE}"], "preferences.judge.api_key_env: there is no NO_SUCH_KEY in the environment"),
        (
            ["preferences.judge={url: 'http://judge', model: m, api_key_file: /no/such/key}"],
            "preferences.judge.api_key_file: /no/such/key: No such file",
        ),
        (["learner.router_replay=true", *PREFIXES], "learner.router_replay: the model has no experts; leave it out"),
        (["learner.router_replay=true"], "generators.vllm.prefix_cache: per_version or across_versions"),
        (
            ["learner.router_replay=true", "generators.engine=transformers"],
            "learner.router_replay: the transformers engine does not say which experts tokens went to",
        ),
        (["learner.router_replay=true", "generators.engine=synthetic"], "the synthetic engine does not say"),
        (["network.bind=192.0.2.1"], "network.bind: 192.0.2.1 cannot be bound on this machine"),
        (["output=/proc/runs"], "output: no folder can be made in /proc"),
        (["output=/dev/null/runs"], "output: no folder can be made in /dev/null"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_key(overrides: list[str], says: str) -> None:
    problem, *_ = found(*overrides)
    assert says in problem
    assert "\n" not in problem


def test_a_run_that_others_join_need_not_start_any_itself() -> None:
    joined = ["generators.count=0", "verifiers.count=0", "network.joining=[generator, verifier]"]
    assert found(*joined) == []


def test_a_reward_model_needs_somebody_who_holds_it() -> None:
    nobody = ["preferences.reward_model=/reward", "scorers.count=0"]
    assert [problem.split(",")[0] for problem in found(*nobody)] == ["scorers.count is 0"]
    assert found(*nobody, "network.joining=[scorer]") == []
    assert found("scorers.count=0") == [], "nothing is to be scored"
    assert found(*nobody, "steps=0") == [], "nothing is generated for training"


TAUGHT = ["distillation.teacher=/teacher", "learner.objective.name=opd"]


def test_a_teacher_needs_somebody_who_holds_it_and_no_reward() -> None:
    weights = [f"rewards.weights.{name}=0" for name in ("accuracy", "format")]
    assert [problem.split(",")[0] for problem in found(*weights)] == ["rewards.weights: all are 0"]
    assert found(*TAUGHT, *weights) == []
    assert [problem.split(",")[0] for problem in found(*TAUGHT, "scorers.count=0")] == ["scorers.count is 0"]


def test_a_group_of_one_can_be_taught() -> None:
    assert found(*TAUGHT, "replay.group_size=1") == []


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (TAUGHT[:1], "distillation would be ignored; set learner.objective.name: opd"),
        (TAUGHT[1:], "learner.objective.advantage: teacher needs a teacher; name one in distillation.teacher"),
        ([*TAUGHT, "replay.drop_zero_variance=true"], "set replay.drop_zero_variance: false"),
        ([*TAUGHT, "preferences.reward_model=/reward"], "preferences would be ignored"),
        ([*TAUGHT, "learner.objective.loss=gspo"], "loss: gspo takes one of a completion"),
    ],
)
def test_what_would_not_go_with_a_teacher_is_refused(overrides: list[str], says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        load(QUICKSTART, overrides)


def test_every_problem_is_named() -> None:
    assert len(found("rewards.language=xx", "replay.group_size=1", "cold_start.development=500")) == 3


def test_files_that_are_missing_are_named_together() -> None:
    assert len(found("cold_start.traces=/no/traces.jsonl", "preferences.pairs=/no/pairs.jsonl")) == 2


def test_an_address_of_a_cluster_need_not_be_this_machines() -> None:
    assert found("network.bind=192.0.2.1", "ray.address=192.0.2.1:6379") == []


def test_a_cold_start_that_is_over_needs_no_traces() -> None:
    assert found("cold_start.traces=/no/such/traces.jsonl", resumed=True) == []


def test_a_group_of_one_may_be_rewarded_without_comparison() -> None:
    right = ["replay.group_size=1", "learner.objective.advantage=none", "replay.drop_zero_variance=false"]
    assert found(*right) == []


def test_the_positions_of_a_local_model_bound_prompt_and_completion(tmp_path: Path) -> None:
    here = model(tmp_path / "model", max_position_embeddings=100)
    assert "max_model_len is 128, and max_position_embeddings" in found(here)[0]
    free = [here, "generators.vllm.max_model_len=null"]
    assert "lower tasks.max_prompt_tokens to 52" in found(*free)[0]
    assert found(*free, "tasks.max_prompt_tokens=52") == []


def test_positions_that_are_not_scaled_bound_as_transformers_5_writes_them(tmp_path: Path) -> None:
    here = model(tmp_path / "model", max_position_embeddings=100, rope_parameters={"rope_type": "default"})
    assert "max_position_embeddings" in found(here)[0]


def test_scaled_positions_and_a_sliding_window_bound_nothing(tmp_path: Path) -> None:
    scaled = model(tmp_path / "a", max_position_embeddings=100, rope_scaling={"factor": 4})
    assert found(scaled) == []
    by_kind = {"max_position_embeddings": 100, "rope_parameters": {"rope_type": "yarn", "factor": 4.0}}
    assert found(model(tmp_path / "b", **by_kind)) == []
    assert found(model(tmp_path / "c", sliding_window=64, max_position_embeddings=4096)) == []


def test_routing_is_replayed_of_a_model_with_experts(tmp_path: Path) -> None:
    replaying = ["learner.router_replay=true", *PREFIXES]
    dense = model(tmp_path / "dense", max_position_embeddings=4096)
    assert found(dense, *replaying) == ["learner.router_replay: the model has no experts; leave it out"]
    for key in ("num_experts", "num_local_experts", "n_routed_experts"):
        here = model(tmp_path / key, max_position_embeddings=4096, **{key: 8})
        assert found(here, *replaying) == []
    assert found("model={kind: folder, path: Qwen/Qwen3-30B-A3B}", *replaying) == []


def test_the_synthetic_engine_runs_no_model_and_has_no_bound() -> None:
    assert found("generators.engine=synthetic", "tasks.max_prompt_tokens=9999") == []


def test_a_name_on_the_hub_is_not_looked_for() -> None:
    assert found("model={kind: folder, path: Qwen/Qwen2.5-1.5B}") == []


def test_the_key_of_a_judge_is_looked_for_where_the_verifiers_run() -> None:
    assert found(f"preferences.judge={JUDGE}", "ray.address=ray://head:10001") == []
    assert found("preferences.judge={url: 'http://judge', model: m, api_key_env: PATH}") == []
