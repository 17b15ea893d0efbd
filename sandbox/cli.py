"""Command line of the sandbox: `serve` it over HTTP, `score` a file."""

from __future__ import annotations

import ipaddress
import json
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, BinaryIO, NoReturn, TextIO

import typer
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from rich.console import Console
from rich.progress import Progress

from sandbox.config import RewardConfig, SandboxConfig
from sandbox.errors import SandboxError
from sandbox.offline import score_lines
from sandbox.pool import Pool
from sandbox.programs.runner import NO_SCRATCH

TOKEN_VARIABLE = "LEEWAY_SANDBOX_TOKEN"
_LONGEST_PROBLEM = 500

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
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to bind; 0: any free one.")] = 8080,
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
    try:
        pool = Pool(settings.sandbox, settings.rewards)
    except SandboxError as error:
        _fail(str(error))
    with pool:
        _announce(pool)
        uvicorn.run(make_app(pool, token=token, max_concurrent=max_concurrent), host=host, port=port, log_level="info")


@app.command()
def score(
    file: Annotated[Path, typer.Argument(help="JSONL, one record a line.", exists=True, dir_okay=False)],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where to write; standard output if not given.")
    ] = None,
    config: ConfigOption = None,
    workers: WorkersOption = None,
    record_seconds: Annotated[float, typer.Option(min=0.1, help="Time one record may take, seconds.")] = 120.0,
) -> None:
    """Score a file offline. Exit status 2 if a record was bad; the good ones are scored all the same."""
    settings = _settings(config, workers)
    errors = Console(stderr=True)
    bad = written = 0
    try:
        with ExitStack() as stack:
            source, target = _opened(stack, file, out)
            total = sum(1 for _ in source)
            source.seek(0)
            pool = stack.enter_context(Pool(settings.sandbox, settings.rewards))
            progress = stack.enter_context(Progress(console=errors, disable=not errors.is_terminal))
            task = progress.add_task("scoring", total=total)
            for scored in score_lines(source, pool, record_seconds, lambda done: progress.update(task, completed=done)):
                if scored.problem:
                    bad += 1
                    problem = scored.problem[:_LONGEST_PROBLEM].encode("utf-8", "backslashreplace").decode()
                    errors.print(f"{file}:{scored.line}: {problem}", markup=False, highlight=False, soft_wrap=True)
                if scored.record is not None:
                    # Half a character becomes the JSON escape that it came as.
                    line = json.dumps(scored.record, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()
                    target.write(line + "\n")
                    written += 1
    except KeyboardInterrupt:
        errors.print(f"interrupted: {written} records scored" + (f", see {out}" if out and written else ""))
        raise typer.Exit(130) from None
    except BrokenPipeError:
        # Whoever read standard output has seen enough; nothing more can be written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None
    if bad:
        raise typer.Exit(2)


def _announce(pool: Pool) -> None:
    """Say what keeps programs in and what they can do here, or end with exit status 2 if nothing keeps them in."""
    runner = pool.runner(3 * pool.config.start_seconds)
    try:
        typer.echo(f"isolation of programs: {runner.isolation()}", err=True)
        typer.echo("fetch_files: available" if runner.can_write() else f"no fetch_files: {NO_SCRATCH}", err=True)
    except SandboxError as error:
        _fail(str(error))


def _opened(stack: ExitStack, file: Path, out: Path | None) -> tuple[BinaryIO, TextIO]:
    """The input and the output; one clear line and exit status 2 if either cannot be had."""
    try:
        source = stack.enter_context(file.open("rb"))
    except OSError as error:
        _fail(f"{file}: {error.strerror}")
    if out is None:
        return source, sys.stdout
    if out.exists() and out.samefile(file):
        _fail(f"{out} is the input; write to another file")
    try:
        return source, stack.enter_context(out.open("w", encoding="utf-8"))
    except OSError as error:
        _fail(f"{out}: {error.strerror}; nothing was scored")


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


if __name__ == "__main__":
    app()
