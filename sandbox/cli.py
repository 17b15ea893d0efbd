"""Command line of the sandbox: `serve` it over HTTP, `score` a file."""

from __future__ import annotations

import ipaddress
import json
import os
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from rich.console import Console
from rich.progress import Progress

from sandbox.config import RewardConfig, SandboxConfig
from sandbox.offline import score_lines
from sandbox.pool import Pool

TOKEN_VARIABLE = "LEEWAY_SANDBOX_TOKEN"

app = typer.Typer(help="Verify model answers and run model-written programs safely.", no_args_is_help=True)

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="YAML with the keys `sandbox` and `rewards`.", dir_okay=False)
]
WorkersOption = Annotated[int | None, typer.Option("--workers", "-w", min=1, help="Checks at the same time.")]


class SandboxFile(BaseModel):
    """The YAML file of `--config`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sandbox: SandboxConfig = Field(default=SandboxConfig(), description="processes, deadlines and limits")
    rewards: RewardConfig = Field(default=RewardConfig(), description="parts and weights of the reward")


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to bind.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to bind.")] = 8080,
    config: ConfigOption = None,
    workers: WorkersOption = None,
    max_concurrent: Annotated[int, typer.Option(min=1, help="Requests worked on at once; more get 503.")] = 64,
) -> None:
    """Serve POST /run_code (SandboxFusion's protocol), POST /verify and GET /metrics.

    Clients send the token in the environment variable LEEWAY_SANDBOX_TOKEN as a bearer token. Without one, only a
    loopback address is served.
    """
    import uvicorn

    from sandbox.server import make_app

    token = os.environ.get(TOKEN_VARIABLE) or None
    if token is None and not _is_loopback(host):
        _fail(f"set {TOKEN_VARIABLE} to serve {host}: without a token only loopback is served")
    settings = _settings(config, workers)
    with Pool(settings.sandbox, settings.rewards) as pool:
        uvicorn.run(make_app(pool, token=token, max_concurrent=max_concurrent), host=host, port=port, log_level="info")


@app.command()
def score(
    file: Annotated[Path, typer.Argument(help="JSONL, one record a line.", exists=True, dir_okay=False)],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where to write; standard output if not given.")
    ] = None,
    config: ConfigOption = None,
    workers: WorkersOption = None,
    record_seconds: Annotated[float, typer.Option(help="Time one record may take, seconds.")] = 120.0,
) -> None:
    """Score a file offline. Exit status 2 if a record was bad; the good ones are scored all the same."""
    settings = _settings(config, workers)
    errors = Console(stderr=True)
    bad = 0
    with ExitStack() as stack:
        source = stack.enter_context(file.open("rb"))
        total = sum(1 for _ in source)
        source.seek(0)
        # A lone surrogate in an id is written as the JSON escape that it came as.
        written = partial(Path.open, mode="w", encoding="utf-8", errors="backslashreplace")
        target = sys.stdout if out is None else stack.enter_context(written(out))
        pool = stack.enter_context(Pool(settings.sandbox, settings.rewards))
        progress = stack.enter_context(Progress(console=errors, disable=not errors.is_terminal))
        task = progress.add_task("scoring", total=total)
        for scored in score_lines(source, pool, record_seconds, lambda done: progress.update(task, completed=done)):
            if scored.problem:
                bad += 1
                problem = scored.problem.encode("utf-8", "backslashreplace").decode()
                errors.print(f"{file}:{scored.line}: {problem}", markup=False, highlight=False, soft_wrap=True)
            if scored.record is not None:
                target.write(json.dumps(scored.record, ensure_ascii=False) + "\n")
    if bad:
        raise typer.Exit(2)


def _settings(path: Path | None, workers: int | None) -> SandboxFile:
    """The configuration; one clear line and exit status 2 if it is bad."""
    content: Any = {}
    if path is not None:
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except (OSError, yaml.YAMLError) as error:
            _fail(f"{path}: {error}")
    try:
        settings = SandboxFile.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        _fail(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}")
    if workers is None:
        return settings
    return settings.model_copy(update={"sandbox": settings.sandbox.model_copy(update={"workers": workers})})


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(2)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
