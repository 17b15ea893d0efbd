"""`leeway keys` from the command line."""

from pathlib import Path

import pytest

from actors import cli


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["leeway", *arguments])
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_it_makes_keys_and_prints_no_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "keys"
    assert call(monkeypatch, "keys", str(folder)) == 0
    assert call(monkeypatch, "keys", str(folder), "--add", "elsewhere") == 0
    shown = "".join(capsys.readouterr())
    secrets = [path.read_text().strip() for path in folder.rglob("*") if path.is_file() and path.suffix != ".public"]
    assert len(secrets) == 4
    assert not any(secret in shown for secret in secrets)
    assert (folder / "elsewhere" / "client.secret").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["keys", "{tmp}"], "left as it is"),
        (["keys", "/dev/null/keys"], "/dev/null"),
        (["keys", "{tmp}", "--add", "else where"], "is no name"),
        (["keys", "{tmp}", "--add", "../up"], "is no name"),
        (["keys", "{tmp}", "--add", "elsewhere"], "nobody was authorized"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: list[str],
    says: str,
) -> None:
    (tmp_path / "something").touch()
    assert call(monkeypatch, *[argument.format(tmp=tmp_path) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert says in error and len(error.strip().splitlines()) == 1
