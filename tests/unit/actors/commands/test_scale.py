"""`leeway scale` against a status page."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from actors.cli import app
from actors.commands.page import newest
from actors.commands.scale import ask
from actors.config.network import NetworkConfig
from actors.control.status import Server
from actors.control.whereabouts import Whereabouts
from actors.errors import RecipeError, RunError
from actors.transport.address import resolve
from tests.unit.actors.control.test_status import Source

TOKEN = "s3cret"


@pytest.fixture
def url() -> Iterator[str]:
    with closing(Server(Source(), resolve(NetworkConfig(), in_cluster=False), TOKEN)) as server:
        yield server.url


@pytest.fixture
def run(tmp_path: Path, url: str) -> Path:
    """A run folder as a controller leaves it while it lives."""
    folder = tmp_path / "runs" / "first"
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text("")
    (folder / "inputs.json").write_text("{}")
    (folder / "token").write_text(TOKEN)
    (folder / "token").chmod(0o600)
    Whereabouts(url=url).write(folder)
    return folder


def test_the_answer_is_the_size_of_the_pools(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LEEWAY_TOKEN", raising=False)
    found = CliRunner().invoke(app, ["scale", "generators", "4", "--run", str(run)])
    assert (found.exit_code, found.stdout) == (0, "generators: 4\n")
    monkeypatch.chdir(run.parent.parent)
    assert CliRunner().invoke(app, ["scale", "verifiers", "2"]).stdout == "verifiers: 2\n"


def test_a_refusal_says_why(url: str) -> None:
    with pytest.raises(RecipeError, match="9 is too many"):
        ask(url, TOKEN, {"pool": "generator", "count": 9})
    with pytest.raises(RecipeError, match="bearer token"):
        ask(url, "another", {"pool": "generator", "count": 1})
    with pytest.raises(RecipeError):
        ask(url, TOKEN, {"pool": "learner", "count": 1})


def test_the_controller_of_another_run_is_told_nothing(run: Path, url: str) -> None:
    Whereabouts(url=url, instance="of-a-controller-that-was-killed").write(run)
    found = CliRunner().invoke(app, ["scale", "generators", "4", "--run", str(run)])
    assert isinstance(found.exception, RunError) and "another controller has this address" in str(found.exception)


def test_a_run_that_is_gone_is_named(run: Path) -> None:
    with pytest.raises(RunError, match=r"127.0.0.1:9/ does not answer"):
        ask("http://127.0.0.1:9/", TOKEN, {"pool": "generator", "count": 1})
    (run / "controller.json").unlink()
    found = CliRunner().invoke(app, ["scale", "generators", "4", "--run", str(run)])
    assert isinstance(found.exception, RecipeError) and "no run is under way" in str(found.exception)


def test_the_newest_run_is_meant_where_none_is_named(run: Path) -> None:
    second = run.parent / "second"
    joined = run.parent / "a-role-that-joined"
    for folder, files in ((second, ("recipe.yaml", "inputs.json")), (joined, ("recipe.yaml",))):
        folder.mkdir()
        for name in files:
            (folder / name).write_text("")
    os.utime(run / "recipe.yaml", (1, 1))
    assert newest(run.parent) == second
    with pytest.raises(RecipeError, match="no run in"):
        newest(run.parent / "nothing")
