"""`leeway status` against a page of two lines, and for runs that are over."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from actors.cli import app
from actors.control.whereabouts import Whereabouts
from actors.errors import RecipeError, RunError

TOLD = {
    "recipe": "r", "folder": "/runs/r", "phase": "training", "detail": "", "seconds": 61.0, "step": 3, "steps": 9,
    "replay": {}, "members": {}, "joined": [], "pools": {}, "versions": {}, "queues": {}, "queue_ages": {},
    "staleness": {"bound": 4, "max": None, "last_step": None}, "weight_sync": None, "stuck": [], "unresponsive": {},
    "restarts": 0, "recovering": [], "recovered": [], "warnings": [],
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


def test_a_run_that_left_nothing_and_what_is_no_run_are_told_apart(asked: Asked, folder: Path) -> None:
    with pytest.raises(RunError, match="not alive"):
        asked(str(folder))
    with pytest.raises(RecipeError, match="not a run folder"):
        asked(str(folder / "elsewhere"))
