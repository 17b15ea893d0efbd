"""What a process exports: its own metrics, those of every process, and nothing of the others.

Every metric belongs to the registry of the role that sets it, or to that of every process. A process owns a role from
`Exports.own` on; one with several roles, as in a synthetic fleet, owns them all. Whoever does not own a metric may
still count on it, for its heartbeat: it is only not shown.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, cast
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import REGISTRY, CollectorRegistry, Metric, start_http_server
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

import sandbox.metrics
from actors.membership import ROLES

#: Longest silence of whoever asks, and longest wait for it to read its answer (s): each has a thread meanwhile.
SILENT_SECONDS = 30.0

#: What every process exports; what libraries register by themselves is there, too: Python, the process, vLLM.
EVERY = REGISTRY
CONTROLLER, REPLAY, GENERATOR, VERIFIER, SCORER, LEARNER = (CollectorRegistry(auto_describe=True) for _ in ROLES)
OF_ROLE: dict[str, tuple[CollectorRegistry, ...]] = {
    "controller": (CONTROLLER,),
    "replay": (REPLAY,),
    "generator": (GENERATOR,),
    "verifier": (VERIFIER, sandbox.metrics.REGISTRY),
    "scorer": (SCORER,),
    "learner": (LEARNER,),
}


class Exports(Collector):
    """What a process shows. `registry` is what Prometheus's client wants of it."""

    def __init__(self) -> None:
        self._roles: list[str] = []
        self.registry = CollectorRegistry(support_collectors_without_names=True)
        self.registry.register(self)

    def own(self, role: str) -> None:
        """Show the metrics of a role from now on."""
        if role not in self._roles:
            self._roles.append(role)

    def disown(self) -> None:
        """Show what every process has, and no more."""
        self._roles.clear()

    def collect(self) -> Iterator[Metric]:
        shown = set()  # a metric of several roles is in the registry of each
        for registry in (EVERY, *(registry for role in self._roles for registry in OF_ROLE[role])):
            for family in registry.collect():
                if family.name not in shown:
                    shown.add(family.name)
                    yield family

    def text(self, accept: str) -> tuple[bytes, str]:
        """All of it, and its content type; with exemplars, where `accept` asks for OpenMetrics."""
        encode, content_type = choose_encoder(_with_colons(accept))
        return encode(self.registry), content_type


def _with_colons(accept: str) -> str:
    """The same header, for which the client leaves names as they are: else OpenMetrics has `vllm_` for `vllm:`."""
    plain = re.sub(r";\s*escaping=[^;,]*", "", accept)
    return re.sub(r"application/openmetrics-text[^,]*", r"\g<0>;escaping=allow-utf-8", plain)


#: What this process shows.
EXPORTED = Exports()
os.register_at_fork(after_in_child=EXPORTED.disown)


class _Asked(WSGIRequestHandler):
    """One request, which nobody logs."""

    def setup(self) -> None:
        super().setup()
        self.connection.settimeout(SILENT_SECONDS)

    def handle(self) -> None:
        with suppress(TimeoutError):  # whoever asks nothing, or reads nothing, is hung up on
            super().handle()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing is worth a line."""


def serve(bind: str, port: int, admits: Callable[[bytes], bool] = lambda _: True) -> WSGIServer:
    """Serve this process's metrics on a port of `bind`; returns the server, for its port and its `shutdown`.

    Args:
        bind: address to listen on.
        port: to listen on; 0 for a free one.
        admits: whether a request may pass, by its Authorization header.

    Raises:
        OSError: where the port is taken.
    """
    server, _ = start_http_server(port, addr=bind, registry=EXPORTED.registry)
    server.RequestHandlerClass = _Asked
    served: Any = server.get_app()

    def gated(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if admits(environ.get("HTTP_AUTHORIZATION", "").encode("latin-1")):
            asked = environ | {"HTTP_ACCEPT": _with_colons(environ.get("HTTP_ACCEPT", ""))}
            return cast("Iterable[bytes]", served(asked, start_response))
        start_response("401 Unauthorized", [("WWW-Authenticate", "Bearer")])
        return [b"a bearer token is needed"]

    server.set_app(gated)
    return server
