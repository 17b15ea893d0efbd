"""Preference rewards: how scores enter rewards, and a reward model from its pairs to its scores."""

import json
import random
import runpy
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from actors.config.loading import load, parse
from actors.config.recipe import Recipe
from actors.config.stages import PreferencesConfig
from actors.errors import GaveUpError, RecipeError
from actors.models import prepare
from actors.roles.learner.reward_model import train_reward_model
from actors.roles.scorer.files import FOLDER, check_files
from actors.roles.scorer.model import ServedModel
from actors.roles.verifier.preference import PreferenceReward, open_reward, with_preference
from actors.tasks import Task, TaskStream
from sandbox import Status, Verdict

RECIPES = Path(__file__).parents[5] / "recipes"
CONFIG = PreferencesConfig(pairs=Path("pairs.jsonl"), weight=0.5, clip=2.0)


def verdict(reward: float = 1.0, status: Status = Status.OK) -> Verdict:
    return Verdict(status, reward, {"accuracy": reward}, 0.1)


def group(purpose: str = "train") -> dict[str, Any]:
    return {
        "purpose": purpose,
        "group_id": 3,
        "verifier": "exact",
        "messages": [["user", "1+1="]],
        "texts": ["2", "three", "2"],
    }


class FixedScores:
    """A scorer for tests that answers with what it was given, or raises it."""

    def __init__(self, answer: list[float] | Exception) -> None:
        self._answer = answer
        self.asked: list[tuple[Task, Sequence[str], float]] = []

    def __call__(self, task: Task, texts: Sequence[str], seconds: float) -> list[dict[str, float]]:
        self.asked.append((task, texts, seconds))
        if isinstance(self._answer, Exception):
            raise self._answer
        return parts(*self._answer)

    def wait_ready(self, stopped: Callable[[], bool]) -> None:
        """It is."""

    def close(self) -> None:
        """Nothing is open."""


class HeldModel(FixedScores):
    """A reward model in this process, as a scorer holds one."""

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        super().__init__([])
        self._model = ServedModel(recipe, folder / FOLDER)

    def __call__(self, task: Task, texts: Sequence[str], seconds: float) -> list[dict[str, float]]:
        assert seconds > 0
        (scores,) = self._model.score([self._model.encode(task, texts)])
        return parts(*map(float, scores))


def reward_of(recipe: Recipe, folder: Path) -> PreferenceReward:
    assert recipe.preferences is not None
    return PreferenceReward(recipe.preferences, HeldModel(recipe, folder))


def parts(*scores: float) -> list[dict[str, float]]:
    return [{"preference": score} for score in scores]


def test_a_score_counts_from_the_mean_of_its_group_up_to_the_bound() -> None:
    verdicts = [verdict(1.0), verdict(0.0, Status.WRONG), verdict(0.0, Status.TIMEOUT)]
    found = with_preference(verdicts, parts(10.0, 11.0, 15.0), CONFIG)
    assert [v.reward for v in found] == [1.0 + 0.5 * -2.0, 0.0 + 0.5 * -1.0, 0.0 + 0.5 * 2.0]
    assert [v.parts for v in found] == [
        {"accuracy": 1.0, "preference": 10.0},
        {"accuracy": 0.0, "preference": 11.0},
        {"accuracy": 0.0, "preference": 15.0},
    ]
    assert [v.status for v in found] == [v.status for v in verdicts]


def test_what_depends_on_the_prompt_alone_changes_no_reward() -> None:
    verdicts = [verdict()] * 3
    there, elsewhere = ([s + shift for s in (0.5, -1.0, 0.25)] for shift in (0.0, 64.0))
    rewards = [[v.reward for v in with_preference(verdicts, parts(*s), CONFIG)] for s in (there, elsewhere)]
    assert rewards[0] == pytest.approx(rewards[1])


def test_training_groups_are_scored_and_evaluations_are_not() -> None:
    scorer = FixedScores([1.0, -1.0, 1.0])
    reward = PreferenceReward(CONFIG, scorer)
    verdicts = [verdict()] * 3
    assert reward.added_to(verdicts, group("evaluate"), time.monotonic() + 5) is verdicts
    assert scorer.asked == []
    found = reward.added_to(verdicts, group(), time.monotonic() + 5)
    assert [v.parts["preference"] for v in found] == [1.0, -1.0, 1.0]
    ((task, texts, seconds),) = scorer.asked
    assert 0 < seconds <= 5
    assert (task.messages, texts) == ((("user", "1+1="),), ["2", "three", "2"])


@pytest.mark.parametrize(
    "answer", [TimeoutError("busy"), RuntimeError("torn weights"), [1.0, float("nan"), 1.0], [1.0, 2.0]]
)
def test_a_failure_of_the_reward_model_is_an_infra_error_and_no_reward(answer: list[float] | Exception) -> None:
    found = PreferenceReward(CONFIG, FixedScores(answer)).added_to([verdict()] * 3, group(), time.monotonic() + 5)
    assert {v.status for v in found} == {Status.INFRA_ERROR}
    assert {v.reward for v in found} == {None}
    assert all(v.detail.startswith("preference: ") for v in found)


def test_what_could_not_be_verified_is_not_scored() -> None:
    broken = [verdict(), Verdict(Status.INFRA_ERROR, None, {}, 0.0, "no worker"), verdict()]
    scorer = FixedScores([1.0, 1.0, 1.0])
    assert PreferenceReward(CONFIG, scorer).added_to(broken, group(), time.monotonic() + 5) is broken
    assert scorer.asked == []


# ---------------------------------------------------------------- a real, tiny reward model


def recipe_of(folder: Path, lines: Sequence[dict[str, str]], **preferences: object) -> Recipe:
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, lines)))
    supervised = {"learning_rate": 3e-3, "batch_size": 16, "epochs": 8, "check_every": 20}
    tree = {
        "name": "test",
        "steps": 0,
        "model": {
            "kind": "tiny", "hidden_size": 32, "layers": 1, "heads": 1, "intermediate_size": 32, "max_length": 96,
        },
        "tasks": {"sources": [{"source": "addition", "digits": 2}], "template": "raw", "held_out": 8},
        "learner": {"dtype": "float32", "device": "cpu", "micro_batch_tokens": 512},
        "preferences": {
            "pairs": str(folder / "pairs.jsonl"), "held_out": 16, "supervised": supervised, **preferences,
        },
    }  # fmt: skip
    return parse(tree, "test")


def digits_over_letters(count: int) -> list[dict[str, str]]:
    draw = random.Random(0)

    def text(alphabet: str) -> str:
        return "".join(draw.choices(alphabet, k=draw.randint(3, 9)))

    def asked() -> str:
        return f"{draw.randint(10, 99)}+{draw.randint(10, 99)}="

    return [{"prompt": asked(), "chosen": text("0123456789"), "rejected": text("abcdefgh")} for _ in range(count)]


def trained(recipe: Recipe, folder: Path) -> tuple[dict[str, Any] | None, list[str]]:
    model = prepare(recipe.model, folder / "models", recipe.seed)
    said: list[str] = []
    stream = TaskStream(recipe.tasks, recipe.seed)
    return train_reward_model(recipe, model, stream, folder / FOLDER, said.append), said


def test_a_preference_is_learned_told_and_found_again_in_the_scores(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, digits_over_letters(160))
    event, said = trained(recipe, tmp_path)
    assert event is not None and event.accuracy > 0.9 and event.margin > 1
    assert event.pairs + event.held_out + event.skipped <= 160
    assert said[0] == f"{event.pairs} pairs, {event.held_out} held out"
    assert any(text.startswith("step 20: loss ") for text in said)
    reward = reward_of(recipe, tmp_path)
    leased = group() | {"texts": ["4711", "bad", "4711"]}
    good, bad, again = reward.added_to([verdict()] * 3, leased, time.monotonic() + 30)
    assert good.parts["preference"] > bad.parts["preference"] + 1
    assert good.reward == again.reward and good.reward is not None and bad.reward is not None
    assert good.reward > 1.0 > bad.reward


def test_tasks_that_are_held_out_are_not_trained_on(tmp_path: Path) -> None:
    lines = digits_over_letters(40)
    stream = TaskStream(recipe_of(tmp_path, lines).tasks, 0)
    apart = [{**lines[0], "prompt": task.messages[-1][1]} for task in stream.held_out]
    event, _ = trained(recipe_of(tmp_path, lines + apart, held_out=4), tmp_path)
    assert event is not None
    fit_for_training = [line for line in lines if not stream.is_held_out((("user", line["prompt"]),))]
    assert event.pairs + event.held_out == len(fit_for_training)


def test_pairs_that_the_model_cannot_read_are_left_out_and_counted(tmp_path: Path) -> None:
    long = [{"prompt": f"{i}+1=", "chosen": "1" * 100, "rejected": "a"} for i in range(200, 205)]
    event, said = trained(recipe_of(tmp_path, digits_over_letters(40) + long, held_out=8), tmp_path)
    assert event is not None and event.skipped == 5
    assert "5 too long" in said[0]
    with pytest.raises(RecipeError, match="longer than the 96 tokens"):
        trained(recipe_of(tmp_path, long, held_out=1), tmp_path)


def test_an_answer_that_the_model_cannot_read_is_an_infra_error(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, digits_over_letters(40), held_out=4)
    trained(recipe, tmp_path)
    reward = reward_of(recipe, tmp_path)
    leased = group() | {"texts": ["1", "2", "3" * 200]}
    found = reward.added_to([verdict()] * 3, leased, time.monotonic() + 30)
    assert {v.status for v in found} == {Status.INFRA_ERROR}
    assert "reads 96 at most" in found[0].detail


def test_a_reward_model_of_answers_sees_no_thoughts(tmp_path: Path) -> None:
    lines = [
        {"prompt": line["prompt"], "chosen": f"<think>hm</think>{line['chosen']}", "rejected": line["rejected"]}
        for line in digits_over_letters(60)
    ]
    thoughts = {"prompt": "300+1=", "chosen": "<think>well</think>1", "rejected": "<think>ill</think>1"}
    recipe = recipe_of(tmp_path, [*lines, thoughts], held_out=8, reads="answer")
    event, said = trained(recipe, tmp_path)
    assert event is not None and said[0] == f"{event.pairs} pairs, 8 held out, 1 of one answer"
    reward = reward_of(recipe, tmp_path)
    leased = group() | {"texts": ["<think>bad</think> 4711", "4711", "<think>4711</think>bad"]}
    thought, plain, bad = reward.added_to([verdict()] * 3, leased, time.monotonic() + 30)
    assert thought.parts == plain.parts != bad.parts
    with pytest.raises(RecipeError, match="no two answers differ after their thoughts"):
        trained(recipe_of(tmp_path, [thoughts], reads="answer"), tmp_path / "other")


def test_completions_longer_than_the_reward_model_reads_are_refused_before_training(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, digits_over_letters(40), held_out=4)
    sampling = recipe.generators.sampling.model_copy(update={"max_tokens": 95})
    longer = recipe.model_copy(update={"generators": recipe.generators.model_copy(update={"sampling": sampling})})
    with pytest.raises(RecipeError, match="max_tokens is 95, and the reward model reads 96"):
        trained(longer, tmp_path)


def test_a_stop_leaves_no_reward_model(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, digits_over_letters(60), held_out=4)
    model = prepare(recipe.model, tmp_path / "models", 0)
    stream = TaskStream(recipe.tasks, 0)
    assert train_reward_model(recipe, model, stream, tmp_path / FOLDER, lambda _: None, lambda: True) is None
    assert not (tmp_path / FOLDER).exists()


# ---------------------------------------------------------------- waiting, and files


def training(recipe: Recipe) -> Recipe:
    return recipe.model_copy(update={"steps": 1})


def test_a_verifier_waits_for_a_scorer_until_it_is_stopped_or_too_late(tmp_path: Path) -> None:
    lines = digits_over_letters(20)
    with pytest.raises(GaveUpError, match=r"waited 0\.1 s for a scorer"):
        open_reward(training(recipe_of(tmp_path, lines, wait_seconds=0.1)), "v", dict, lambda: False)
    asked: list[int] = []

    def stopped() -> bool:
        asked.append(1)
        return len(asked) > 3

    assert open_reward(training(recipe_of(tmp_path, lines)), "v", dict, stopped) is None
    assert open_reward(training(recipe_of(tmp_path, lines)), "v", lambda: {"scorer-1": "tcp://x"}, lambda: False)


def test_where_nothing_is_generated_nobody_waits_for_a_scorer(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, digits_over_letters(20))
    assert recipe.steps == 0 and not recipe.has_scorers
    assert open_reward(recipe, "v", dict, lambda: False) is None


def test_a_verifier_needs_no_torch() -> None:
    code = "import sys, actors.roles.verifier.verifier; print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120).stdout == "[]\n"


def test_a_recipe_without_preferences_opens_nothing(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, []).model_copy(update={"preferences": None})
    assert open_reward(training(recipe), "v", dict, lambda: False) is None
    check_files(recipe)


def test_the_example_has_data_that_it_can_use(tmp_path: Path) -> None:
    runpy.run_path(str(RECIPES / "data" / "two_styles.py"))["write"](tmp_path)
    files = [f"preferences.pairs={tmp_path}/pairs.jsonl", f"cold_start.traces={tmp_path}/traces.jsonl"]
    recipe = load(RECIPES / "preferences.yaml", files)
    check_files(recipe)
    traces = [json.loads(line)["response"] for line in (tmp_path / "traces.jsonl").read_text().splitlines()]
    assert 0.45 < sum("; " in trace for trace in traces) / len(traces) < 0.55, "the policy must know both styles"


def test_files_are_looked_at_before_anything_starts(tmp_path: Path) -> None:
    good = recipe_of(tmp_path, digits_over_letters(4))
    check_files(good)
    assert good.preferences is not None

    def changed(**update: object) -> Recipe:
        return good.model_copy(update={"preferences": good.preferences.model_copy(update=update)})

    missing = changed(pairs=tmp_path / "none.jsonl")
    with pytest.raises(RecipeError, match=r"none\.jsonl: cannot be read .* correct `preferences\.pairs`"):
        check_files(missing)
    (tmp_path / FOLDER).mkdir()
    check_files(missing, tmp_path)  # a run that goes on has its reward model already
    with pytest.raises(RecipeError, match=r"preferences\.base: .* holds no config\.json"):
        check_files(changed(base=tmp_path / "none"))
    policy = prepare(good.model, tmp_path / "models", 0)
    check_files(changed(base=policy))
    with pytest.raises(RecipeError, match="holds LlamaForCausalLM, which is no sequence classifier"):
        check_files(changed(pairs=None, reward_model=policy))
