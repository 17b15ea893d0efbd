"""The command line's exit codes and messages."""

import pytest

from actors.cli import main


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["leeway", *arguments])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_check_prints_the_resolved_tree(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "check", "recipes/quickstart.yaml", "-s", "replay.max_staleness=2") == 0
    assert "max_staleness: 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["check", "recipes/quickstart.yaml", "-s", "learner.speed=1"], "learner.speed"),
        (["run", "no-such-recipe.yaml"], "no-such-recipe.yaml"),
        (["run"], "name a recipe"),
        (["run", "--resume", "recipes"], "not a run folder"),
        (["check"], "recipe"),
        (["fly"], "fly"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert call(monkeypatch, *arguments) == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert len(captured.err.strip().splitlines()) == 1
