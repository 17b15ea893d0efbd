"""A stub of an OpenAI-compatible endpoint: a real HTTP server whose judgements a test writes."""

import asyncio
import json
import re
import socket
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from actors.config.loading import load
from actors.config.recipe import Recipe
from actors.deadline import until
from actors.roles.verifier.judge import JudgeScorer
from actors.tasks import Task

MODEL = "judge-1"
QUICKSTART = Path(__file__).parents[5] / "recipes" / "quickstart.yaml"
KEY = "sk-not-to-be-seen-anywhere"
GROUP = {
    "purpose": "train",
    "group_id": 1,
    "verifier": "exact",
    "source": "sums",
    "messages": [["user", "?"]],
    "texts": ["2"],
}
TASK = Task("", (("user", "What is 1 + 1?"),), "exact", {})
#: What the stub does with a request: words of the judge, a whole choice, or an HTTP response.
Script = Callable[[str], str | dict[str, Any] | Response]


def quoted(prompt: str) -> dict[str, str]:
    """What stands between the tags that the last sentence of a question names, by the part that it is."""
    nonce = re.findall(r"names end in -(\w+) is quoted", prompt)[-1]
    found = re.findall(rf"<(\w+)-{nonce}>\n(.*?)\n</\1-{nonce}>", prompt, re.DOTALL)
    return dict(found)


def never_ends() -> Response:
    """A response that comes a space at a time."""

    async def spaces() -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.02)

    return StreamingResponse(spaces())


class StubJudge:
    """Serves until it is closed; `script` may change meanwhile.

    Attributes:
        prompts: what it was asked, the first questions of a verifier included.
        key: what it asks for; None: nothing.
    """

    def __init__(self, script: Script, key: str | None = None, port: int = 0) -> None:
        self.script, self.key, self.prompts, self.bodies = script, key, list[str](), list[dict[str, Any]]()
        self.looked = 0
        self._socket = socket.create_server(("127.0.0.1", port))
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self._server = uvicorn.Server(uvicorn.Config(self._app(), log_level="critical", lifespan="off"))
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)
        self._thread.start()
        assert until(lambda: self._server.started, 60)

    def close(self) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(60)
        self._socket.close()

    def _app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/v1/models")
        async def models(request: Request) -> Response:
            self.looked += 1
            return self._locked(request) or JSONResponse({"object": "list", "data": [{"id": MODEL, "object": "model"}]})

        @app.post("/v1/chat/completions")
        async def completions(request: Request) -> Response:
            body = await request.json()
            if (locked := self._locked(request)) is not None:
                return locked
            self.bodies.append(body)
            self.prompts.append(body["messages"][-1]["content"])
            said = self.script(self.prompts[-1])
            if isinstance(said, Response):
                return said
            choice = said if isinstance(said, dict) else {"message": {"content": said}}
            return JSONResponse({"choices": [{"finish_reason": "stop", **choice}]})

        return app

    def _locked(self, request: Request) -> Response | None:
        shown = request.headers.get("Authorization", "")
        if self.key is None or shown == f"Bearer {self.key}":
            return None
        return JSONResponse({"error": {"message": f"Incorrect API key provided: {shown}"}}, 401)


def recipe_of(url: str, *overrides: str, **judge: Any) -> Recipe:
    given = {"url": url, "model": MODEL, "timeout_seconds": 5.0, **judge}
    return load(
        QUICKSTART,
        [f"preferences.judge={json.dumps(given)}", "rewards.format=none",
         "rewards.weights.format=0", "verifiers.deadline_seconds=20", *overrides],
    )  # fmt: skip


def by_length(prompt: str) -> str:
    """A judge for which longer is better."""
    parts = quoted(prompt)
    return f"It is as long as it is.\nScore: {min(9, len(parts.get('answer', parts.get('response', ''))))}"


def ready(recipe: Recipe) -> JudgeScorer:
    scorer = JudgeScorer(recipe)
    scorer.wait_ready(lambda: False)
    return scorer


def scores(recipe: Recipe, *texts: str, seconds: float = 20.0) -> list[dict[str, float]]:
    return ready(recipe)(TASK, texts, seconds)


def failing_once(answer: Response | str) -> Script:
    left = [answer]
    return lambda prompt: left.pop() if left else by_length(prompt)
