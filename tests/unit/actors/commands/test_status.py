"""`leeway status` against a page of two lines, and for runs that are over."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from typer.testing import CliRunner

from actors.cli import app
from actors.commands import status
from actors.commands.page import looked
from actors.commands.status import follow
from actors.config.network import NetworkConfig
from actors.control.status import Server
from actors.control.whereabouts import Whereabouts, forget
from actors.errors import RecipeError, RunError
from actors.folder import locked
from actors.transport.address import resolve
from tests.unit.actors.control.test_status import Source

TOLD = {
    "recipe": "r", "folder": "/runs/r", "phase": "training", "detail": "", "seconds": 61.0, "step": 3, "steps": 9,
    "replay": {}, "members": {}, "joined": [], "leaving": [], "pools": {}, "versions": {}, "queues": {},
    "queue_ages": {}, "staleness": {"bound": 4, "max": None, "last_step": None}, "weight_sync": None, "stuck": [],
    "unresponsive": {}, "restarts": 0, "recovering": [], "recovered": [], "warnings": [],
}  # fmt: skip


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(TOLD).encode())

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""


@pytest.fixture
def url() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "recipe.yaml").touch()
    return tmp_path


Asked = Callable[..., str]


@pytest.fixture
def asked() -> Asked:
    def ask(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["status", *arguments], standalone_mode=False)
        if result.exception is not None:
            raise result.exception
        return result.output

    return ask


def test_a_run_that_is_alive_is_found_by_its_folder_or_its_page(asked: Asked, folder: Path, url: str) -> None:
    Whereabouts(url=url).write(folder)
    for where in (str(folder), url):
        assert "step 3 of 9, training, after 1 min 01 s" in asked(where)
    assert json.loads(asked(str(folder), "--json")) == TOLD


def test_a_run_that_has_finished_is_said_to_be_over(asked: Asked, folder: Path) -> None:
    (folder / "summary.json").write_text(json.dumps({"outcome": "finished", "reason": None, "steps": 9}))
    assert "this run is over: finished after 9 steps" in asked(str(folder))


@pytest.mark.parametrize("outcome", ["failed", "interrupted", "running"])
def test_a_run_that_did_not_finish_does_not_look_like_success(asked: Asked, folder: Path, outcome: str) -> None:
    (folder / "summary.json").write_text(json.dumps({"outcome": outcome, "reason": "boom", "steps": 2}))
    with pytest.raises(RunError, match=rf"{outcome} after 2 steps: boom"):
        asked(str(folder))


def test_a_controller_that_does_not_answer_is_named(asked: Asked, folder: Path) -> None:
    Whereabouts(url="http://127.0.0.1:9/").write(folder)
    with pytest.raises(RunError, match=r"http://127\.0\.0\.1:9/ does not answer.*logs/controller\.log"):
        asked(str(folder))


def test_the_controller_of_another_run_is_not_taken_for_this_one(asked: Asked, folder: Path, url: str) -> None:
    Whereabouts(url=url, instance="of-a-controller-that-was-killed").write(folder)
    with pytest.raises(RunError, match="another controller has this address"):
        asked(str(folder))


@pytest.mark.parametrize("everything", [False, True])
def test_the_token_travels_only_where_it_is_asked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch, everything: bool
) -> None:
    monkeypatch.setenv("LEEWAY_TOKEN", "s3cret" if everything else "no\ntoken")  # which nobody could even send
    node = resolve(NetworkConfig(), in_cluster=False)
    with closing(Server(Source(), node, "s3cret", everything)) as server:
        assert looked(server.url, folder, server.instance) == Source().status()


def test_a_run_that_begins_is_not_said_to_be_dead(asked: Asked, folder: Path) -> None:
    (folder / "summary.json").write_text(json.dumps({"outcome": "interrupted", "reason": None, "steps": 2}))
    with locked(folder), pytest.raises(RunError, match="this run is alive, and its controller is not there"):
        asked(str(folder))


def test_a_run_is_watched_through_the_loss_of_its_controller_until_it_is_over(folder: Path, url: str) -> None:
    """Beginning, at work, its controller gone, at work again, ended."""
    pages: list[str] = []

    def show(page: object) -> None:
        console = Console(record=True, width=200, file=StringIO())
        console.print(page)
        pages.append(console.export_text())
        match len(pages):
            case 1 | 3:
                Whereabouts(url=url).write(folder)
            case 2:
                Whereabouts(url="http://127.0.0.1:9/").write(folder)
            case _:
                forget(folder)
                run.close()

    with ExitStack() as run:
        run.enter_context(locked(folder))
        follow(str(folder), show, interval_seconds=0.0)
    assert [("step 3 of 9" in page, "asking again" in page) for page in pages] == [
        (False, True), (True, False), (False, True), (True, False)
    ]  # fmt: skip


def test_who_watches_a_run_that_was_killed_is_told(folder: Path, url: str) -> None:
    Whereabouts(url=url).write(folder)
    with pytest.raises(RunError, match="does not answer"):
        follow(str(folder), lambda _: Whereabouts(url="http://127.0.0.1:9/").write(folder), interval_seconds=0.0)


def test_a_page_that_stays_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(status, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    source = Source()
    source.status = lambda: TOLD  # type: ignore[method-assign]
    server = Server(source, resolve(NetworkConfig(), in_cluster=False))
    shown: list[object] = []

    def show(page: object) -> None:
        shown.append(page)
        server.close()

    with pytest.raises(RunError, match="no controller answers"):
        follow(server.url, show, silent_seconds=10.0, interval_seconds=3.0)
    assert len(shown) == 1 + 3, "it is asked again for a while"


def test_a_run_that_left_nothing_and_what_is_no_run_are_told_apart(asked: Asked, folder: Path) -> None:
    with pytest.raises(RunError, match="not alive"):
        asked(str(folder))
    with pytest.raises(RecipeError, match="not a run folder"):
        asked(str(folder / "elsewhere"))
