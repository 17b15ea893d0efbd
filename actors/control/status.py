"""The controller over HTTP: health, status, metrics, and where Prometheus finds every process of the run.

What changes something needs the run's token (`actors.transport.keys`), and without one nothing can be changed.
"""

import logging
import secrets
import socket
import threading
from typing import Any, Protocol

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse

from actors.config.base import Section
from actors.control.placement import Pool
from actors.control.stream import Stream
from actors.deadline import until
from actors.errors import RecipeError, RunError
from actors.observability.exposition import EXPORTED
from actors.report.page import POLICY, document
from actors.transport.address import FREED_SECONDS, Node, listen, split, url
from sandbox.gate import Admits, Gate, Token

log = logging.getLogger(__name__)

#: Longest start of the HTTP server, which has nothing to load (s).
START_SECONDS = 10.0
#: Longest wait for the pages under way when it closes (s).
CLOSE_SECONDS = 1.0
#: A connection is given up where what it was sent is not read for so long (s): a page that is open in a machine that
#: sleeps, or in a browser that is suspended, must not keep its place.
UNREAD_SECONDS = 60.0
#: Largest body of a request (bytes).
MAX_BODY_BYTES = 2**20
#: Beside the policy that the page itself states: no other page may frame it, and no cache keeps it.
PAGE_HEADERS = {
    "content-security-policy": f"{POLICY}; frame-ancestors 'none'",
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
}
#: What whoever keeps the controller alive asks, without a token.
_PROBES = frozenset({"/healthz", "/readyz"})


class StatusSource(Protocol):
    """What the pages show."""

    def ready(self) -> bool: ...

    def status(self) -> dict[str, Any]: ...

    def targets(self) -> list[dict[str, Any]]: ...

    def parts(self) -> dict[str, str]:
        """Of the page, see `actors.report.page.parts`."""
        ...

    def scale(self, pool: str, count: int) -> dict[str, int]:
        """Raises RecipeError where there is no such pool, or the count will not do."""
        ...


class Scale(Section):
    """How many processes there are to be of a pool."""

    pool: Pool
    count: int


def admits(token: str | None, everything: bool) -> Admits:
    """Which requests pass: without the token those that change nothing or, where it is for everything, probes alone."""
    wanted = None if token is None else Token(token)

    def admit(method: str, path: str, authorization: bytes) -> bool:
        if path in _PROBES or (method in ("GET", "HEAD") and not everything):
            return True
        return wanted is not None and wanted.matches(authorization)

    return admit


def application(run: StatusSource, stream: Stream, token: str | None, everything: bool, instance: str) -> FastAPI:
    app = FastAPI(title="Leeway", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Gate, admits=admits(token, everything), max_body_bytes=MAX_BODY_BYTES)

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        """The controller is alive, and which one it is."""
        return {"status": "ok", "instance": instance}

    @app.get("/readyz")
    def readyz() -> JSONResponse:
        """Every pool has come up and the learner trains."""
        ready = run.ready()
        return JSONResponse({"ready": ready}, status_code=200 if ready else 503)

    @app.get("/status")
    def status() -> dict[str, Any]:
        return run.status()

    @app.post("/scale")
    def scale(wanted: Scale) -> JSONResponse:
        """Change the size of a pool; answers with the sizes of all pools."""
        try:
            return JSONResponse(run.scale(wanted.pool, wanted.count))
        except RecipeError as error:
            return JSONResponse({"detail": str(error)}, status_code=400)

    @app.get("/targets")
    def targets() -> list[dict[str, Any]]:
        """Prometheus HTTP service discovery."""
        return run.targets()

    @app.get("/metrics")
    def metrics(request: Request) -> Response:
        text, content_type = EXPORTED.text(request.headers.get("accept", ""))
        return Response(text, headers={"content-type": content_type})

    @app.get("/")
    def page() -> HTMLResponse:
        return HTMLResponse(document(stream.latest(), live=True), headers=PAGE_HEADERS)

    @app.get("/events")
    async def events() -> Response:
        """What the page hears of the run (server-sent events)."""
        return stream.response()

    return app


def _listen(node: Node, before: str | None) -> socket.socket:
    if before is None:
        return listen(node, node.ports.status, "network.ports.status")
    port = node.ports.status or (split(before)[1] if before else 0)
    try:
        return listen(node, port, "network.ports.status", FREED_SECONDS)
    except RunError as error:
        log.warning("%s; the status page moves, and the run goes on", error)
        return listen(node)


class Server:
    """uvicorn in a thread, from the constructor to `close`; `address` and `url` are as others reach it, and `instance`
    is what tells it from every other one.

    Args:
        run: what the pages show.
        node: where to listen.
        token: of whoever may change the run; None: nobody.
        everything: whether to look needs the token, too.
        before: where the page of the controller was whose place this one takes, empty where nobody knows; it stays
            there if that can be, once that controller has ended. None where there was none.
    """

    def __init__(
        self,
        run: StatusSource,
        node: Node,
        token: str | None = None,
        everything: bool = False,
        before: str | None = None,
    ) -> None:
        self._listener = _listen(node, before)
        self._listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(UNREAD_SECONDS * 1000))
        port: int = self._listener.getsockname()[1]
        self.address = node.at(port)
        self.url = url(node.advertise, port)
        self.instance = secrets.token_hex(8)
        self._stream = Stream(run.parts)
        pages = application(run, self._stream, token, everything, self.instance)
        self._server = uvicorn.Server(uvicorn.Config(pages, log_level="warning", lifespan="off"))
        self._thread = threading.Thread(target=self._server.run, args=([self._listener],), name="http", daemon=True)
        self._thread.start()
        if not until(lambda: self._server.started or not self._thread.is_alive(), START_SECONDS):
            raise RunError(f"the status page at {self.url} did not come up within {START_SECONDS:g} s")
        if not self._server.started:
            raise RunError(f"the status page cannot be served at {self.url}; see logs/controller.log")

    def close(self) -> None:
        self._stream.close()
        self._server.should_exit = True
        self._thread.join(CLOSE_SECONDS)
        self._listener.close()
