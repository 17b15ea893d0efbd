"""The controller over HTTP: health, status, metrics, and where Prometheus finds every process of the run."""

import threading
from typing import Any, Protocol

import prometheus_client
import uvicorn
from fastapi import FastAPI, Response
from fastapi.responses import HTMLResponse, JSONResponse

from actors.deadline import until
from actors.errors import RunError


class StatusSource(Protocol):
    """What the pages show."""

    def ready(self) -> bool: ...

    def status(self) -> dict[str, Any]: ...

    def targets(self) -> list[dict[str, Any]]: ...

    def page(self) -> str: ...


def application(run: StatusSource) -> FastAPI:
    app = FastAPI(title="Leeway", docs_url=None, redoc_url=None)

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        """The controller is alive."""
        return {"status": "ok"}

    @app.get("/readyz")
    def readyz() -> JSONResponse:
        """Every pool has come up and the learner trains."""
        ready = run.ready()
        return JSONResponse({"ready": ready}, status_code=200 if ready else 503)

    @app.get("/status")
    def status() -> dict[str, Any]:
        return run.status()

    @app.get("/targets")
    def targets() -> list[dict[str, Any]]:
        """Prometheus HTTP service discovery."""
        return run.targets()

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(prometheus_client.generate_latest(), media_type=prometheus_client.CONTENT_TYPE_LATEST)

    @app.get("/")
    def page() -> HTMLResponse:
        return HTMLResponse(run.page(), headers={"refresh": "10"})

    return app


class Server:
    """uvicorn in a thread, from the constructor to `close`."""

    def __init__(self, run: StatusSource, host: str, port: int) -> None:
        config = uvicorn.Config(application(run), host=host, port=port, log_level="warning", lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, name="http", daemon=True)
        self._thread.start()
        if not until(lambda: self._server.started or not self._thread.is_alive(), 10.0) or not self._server.started:
            raise RunError(f"the controller cannot serve HTTP on {host}:{port}; is the port taken?")
        port: int = self._server.servers[0].sockets[0].getsockname()[1]
        self.address = f"{host}:{port}"
        self.url = f"http://{self.address}/"

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(5.0)
