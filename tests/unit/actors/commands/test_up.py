"""`leeway up` from the command line: what it refuses, and what it calls itself."""

from pathlib import Path

import pytest

from actors.commands.up import name_of
from actors.errors import RecipeError
from tests.unit.actors.commands.test_keys import call

RECIPE = str(Path(__file__).parents[4] / "recipes" / "quickstart.yaml")
JOIN = ["--join", "tcp://127.0.0.1:5555"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--role", "generator"], "--join"),
        (["--role", "replay", *JOIN], "--join"),
        (["--role", "controller", *JOIN], "controller"),
        (["--role", "generator", "--join", "127.0.0.1:5555"], "no address such as"),
        (["--role", "generator", "--join", "tcp://a b:1"], "no address such as"),
        (["--role", "generator", *JOIN, "--rank", "1"], "--rank"),
        (["--role", "generator", "--join", "tcp://a:1,tcp://b:1"], "2 addresses, and replay.shards is 1"),
        (["--role", "learner", *JOIN, "--rank", "1"], "learner.ranks is 1"),
        (["--role", "generator", *JOIN, "--name", "../up"], "--name"),
        (["--role", "generator", *JOIN, "--folder", "/dev/null/folder"], "/dev/null/folder"),
        (["--role", "generator", *JOIN, "-s", "learner.speed=1"], "learner.speed"),
        (["--role", "scorer", *JOIN, "-s", "preferences={pairs: x.jsonl}"], "preferences.reward_model"),
        (["--role", "scorer", *JOIN], "this recipe has no reward model"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert call(monkeypatch, "up", RECIPE, *arguments) == 2
    error = capsys.readouterr().err
    assert says in error and len(error.strip().splitlines()) == 1


def test_two_that_join_have_two_names_and_services_have_theirs() -> None:
    assert name_of("generator", 0, None) != name_of("generator", 0, None)
    assert name_of("generator", 0, None).startswith("generator-")
    assert [name_of("learner", rank, None) for rank in (0, 1)] == ["learner", "learner-rank-1"]
    assert name_of("verifier", 0, "spot-7") == "spot-7"
    for wrong in ("", "a b", "-", "a\n"):
        with pytest.raises(RecipeError):
            name_of("verifier", 0, wrong)
