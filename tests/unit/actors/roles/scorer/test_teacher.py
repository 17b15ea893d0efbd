"""A scorer that holds a teacher: what it is asked over its socket, what it answers, and which teacher it refuses."""

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.config.loading import load
from actors.config.recipe import Recipe
from actors.deadline import until
from actors.errors import ProtocolError, RecipeError
from actors.models import prepare
from actors.roles.role import RoleContext, Storage
from actors.roles.scorer.files import check_files
from actors.roles.scorer.messages import ScoreTexts, ScoreTokens
from actors.roles.scorer.scorer import Scorer
from actors.roles.scorer.teacher import ServedTeacher
from actors.roles.verifier.scorer_pool import ScorerPool
from actors.tasks import Task
from learner import LearnerConfig, Teacher
from learner.errors import BatchError
from tests.unit.actors.transport.test_client import FakeReplay

QUICKSTART = Path(__file__).parents[5] / "recipes" / "quickstart.yaml"
SECONDS = 60.0
PROMPT, COMPLETIONS = np.array([5, 9, 7], np.int32), [np.array(c, np.int32) for c in ([8], [4, 12, 2], [30, 2])]
ARRAYS = {"prompt": PROMPT, "tokens": np.concatenate(COMPLETIONS)}
LENGTHS = [1, 3, 2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(load(QUICKSTART).model, tmp_path_factory.mktemp("models"), 0)


def recipe_of(teacher: Path, *overrides: str) -> Recipe:
    settings = [f"distillation.teacher={teacher}", "learner.objective.name=opd", "membership.heartbeat_seconds=0.1"]
    return load(QUICKSTART, [*settings, *overrides])


def asked(kind: type[Any] = ScoreTokens, **body: Any) -> Any:
    return kind(worker="v", role="verifier", wait_seconds=1.0, **body)


@pytest.fixture
def serving(tmp_path: Path, folder: Path, replay: FakeReplay) -> Iterator[Scorer]:
    recipe = recipe_of(folder, "generators.sampling.temperature=0.7")
    scorer = Scorer(RoleContext(recipe, "scorer-1", Storage(tmp_path, folder), replay.endpoint))
    thread = threading.Thread(target=scorer.run, daemon=True)
    thread.start()
    yield scorer
    scorer.stop()
    thread.join(SECONDS)
    assert not thread.is_alive()


def test_a_verifier_gets_the_logprobs_of_every_token_at_the_sampling_temperature(
    serving: Scorer, folder: Path, replay: FakeReplay
) -> None:
    address = serving.describe().address
    assert until(lambda: bool(replay.bodies) and replay.bodies[-1]["report"]["service"] == address, SECONDS)
    (own,) = Teacher(LearnerConfig(dtype="float32", device="cpu"), folder).logprobs([(PROMPT, COMPLETIONS)], 0.7)
    with closing(ScorerPool("verifier-1", 5.0, lambda: {"scorer-1": address})) as pool:
        found = pool.ask("logprobs", {"lengths": LENGTHS}, ARRAYS, 6, SECONDS)
        np.testing.assert_allclose(found, np.concatenate(own), atol=1e-5)
        with pytest.raises(BatchError, match="the student's tokenizer"):
            pool.ask("logprobs", {"lengths": LENGTHS}, ARRAYS | {"tokens": ARRAYS["tokens"] + 120}, 6, SECONDS)
        with pytest.raises(BatchError, match="lengths add up to 6, and there are 5 tokens"):
            pool.ask("logprobs", {"lengths": LENGTHS}, ARRAYS | {"tokens": ARRAYS["tokens"][1:]}, 6, SECONDS)
        with pytest.raises(BatchError, match="a reward model was asked for"):
            pool(Task("", (("user", "1+1="),), "", {}), ["2"], SECONDS)


@pytest.mark.parametrize(
    "arrays",
    [{}, {"prompt": PROMPT}, ARRAYS | {"prompt": PROMPT.astype(np.float32)}, ARRAYS | {"prompt": PROMPT[None]}],
)
def test_what_are_no_tokens_is_refused(folder: Path, arrays: Any) -> None:
    served = ServedTeacher(recipe_of(folder), folder, folder)
    with pytest.raises(ProtocolError, match="int32 with one dimension"):
        served.read(asked(lengths=LENGTHS), arrays)
    with pytest.raises(BatchError, match="a reward model was asked for"):
        served.read(asked(ScoreTexts, messages=[("user", "1+1=")], texts=["2"]), {})


@pytest.fixture
def stranger(folder: Path, tmp_path: Path) -> Callable[[str, str], Path]:
    """A teacher whose tokenizer differs from the student's by a replacement in its file."""

    def make(old: str, new: str) -> Path:
        copy = tmp_path / "stranger"
        shutil.copytree(folder, copy)
        file = copy / "tokenizer.json"
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new, 1))
        return copy

    return make


def test_a_teacher_with_another_tokenizer_is_refused_before_anything_starts(
    folder: Path, stranger: Callable[[str, str], Path]
) -> None:
    check_files(recipe_of(folder))
    other = stranger('"<reserved9>"', '"ß"')
    says = (
        r"distillation\.teacher: .* has another tokenizer than the student \(of the student's 128 tokens 1 are others"
    )
    with pytest.raises(RecipeError, match=says) as raised:
        check_files(recipe_of(other))
    assert raised.value.exit_code == 2
    with pytest.raises(RecipeError, match=says):
        ServedTeacher(recipe_of(other), other, folder)


def test_a_teacher_that_joins_characters_otherwise_is_refused(stranger: Callable[[str, str], Path]) -> None:
    with pytest.raises(RecipeError, match="it writes a text in other tokens"):
        check_files(recipe_of(stranger(r"[\\s\\S]", r"\\d")))


def test_a_teacher_writes_text(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"distillation\.teacher: .* holds no config\.json"):
        check_files(recipe_of(tmp_path / "none"))
    (tmp_path / "config.json").write_text('{"architectures": ["LlamaForSequenceClassification"]}')
    with pytest.raises(RecipeError, match="holds LlamaForSequenceClassification, which writes no text"):
        check_files(recipe_of(tmp_path))
