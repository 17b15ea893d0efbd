"""Command line of the sandbox: `serve` it over HTTP, `score` a file.

`leeway sandbox` has both commands; `leeway score` is the same command as `leeway sandbox score`. Exit status: 0 done,
1 the machine is at fault, 2 the input is wrong, 130 interrupted (143 by SIGTERM).
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer
from rich.console import Console
from rich.progress import Progress

from sandbox import settings
from sandbox.errors import InputError, SandboxError
from sandbox.interrupts import INTERRUPTED, Interrupts
from sandbox.offline import ScoredLine, score_lines
from sandbox.pool import Pool
from sandbox.programs.runner import NO_SCRATCH
from sandbox.secret_files import read_secret, require_word
from sandbox.terminal import lasting

TOKEN_VARIABLE = "LEEWAY_SANDBOX_TOKEN"
_LONGEST_PROBLEM = 500
#: What a server that is told to end gives to the requests that it works on: less than Kubernetes gives a pod (s).
_LAST_REQUESTS_SECONDS = 20

app = typer.Typer(
    help="Verify model answers and run model-written programs safely.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="YAML with the keys `sandbox` and `rewards`.")
]
WorkersOption = Annotated[int | None, typer.Option("--workers", "-w", min=1, help="Checks at the same time.")]


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to bind.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to bind; 0: any free one.")] = 8080,
    config: ConfigOption = None,
    workers: WorkersOption = None,
    max_concurrent: Annotated[int, typer.Option(min=1, help="Requests worked on at once; more get 503.")] = 64,
    token_file: Annotated[
        Path | None, typer.Option(help="File with the token, which nobody else can read; default: the variable.")
    ] = None,
) -> None:
    """Serve POST /run_code (as SandboxFusion does), POST /verify and GET /metrics.

    Clients send the token in --token-file, or in LEEWAY_SANDBOX_TOKEN, as a bearer token.
    Without one, only a loopback address is served.
    """
    with _exit_codes(), ExitStack() as stack:
        import uvicorn

        from sandbox import listening
        from sandbox.server import make_app

        loaded = settings.load(config, workers)
        token = _token(token_file)
        addresses = listening.resolve(host, port)
        if token is None and not all(address.is_loopback for address in addresses):
            raise InputError(
                f"set {TOKEN_VARIABLE} or --token-file to serve {host}: without a token only loopback is served"
            )
        sockets = [stack.enter_context(made) for made in listening.bind(addresses)]
        pool = stack.enter_context(Pool(loaded.sandbox, loaded.rewards))
        _announce(pool)
        for url in listening.urls(sockets):
            _say(f"serving on {url}")
        server = uvicorn.Server(
            uvicorn.Config(
                make_app(pool, token=token, max_concurrent=max_concurrent),
                log_level="info",
                timeout_graceful_shutdown=_LAST_REQUESTS_SECONDS,
            )
        )
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets)


@app.command()
def score(
    file: Annotated[Path, typer.Argument(help="JSONL, one record a line.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where to write; standard output if not given.")
    ] = None,
    config: ConfigOption = None,
    workers: WorkersOption = None,
    record_seconds: Annotated[float, typer.Option(min=0.1, help="Time one record may take, seconds.")] = 120.0,
) -> None:
    """Score a file offline. A bad record is named, and the others are scored.

    Exit status 2 if a record was bad, 1 if the machine could not score one.
    """
    with _exit_codes(), ExitStack() as stack:
        loaded = settings.load(config, workers)
        source = _opened(stack, file)
        _must_not_be_input(out, file)
        pool = stack.enter_context(Pool(loaded.sandbox, loaded.rewards))
        output = stack.enter_context(_Output(out))
        errors = lasting(Console(stderr=True))
        total, wrong, failed = 0, 0, 0
        try:
            for scored in _scored(source, file, pool, record_seconds, errors):
                total += 1
                if scored.problem:
                    wrong += not scored.retryable
                    failed += scored.retryable
                    errors.print(
                        f"{file}:{scored.line}: {_one_line(scored.problem)}",
                        markup=False,
                        highlight=False,
                        soft_wrap=True,
                    )
                if scored.record is not None:
                    output.write(scored.record)
        except KeyboardInterrupt:
            where = f", see {out}" if out and output.written else ""
            errors.print(f"interrupted: {output.written} records scored{where}", markup=False, highlight=False)
            raise typer.Exit(INTERRUPTED) from None
        if not total:
            raise InputError(f"{file}: holds no record; give a file with at least one")
        if wrong:
            raise InputError(
                f"{wrong} of {total} {'records' if total > 1 else 'record'} {'are' if wrong > 1 else 'is'} wrong"
            )
    if failed:
        raise typer.Exit(1)


class _Output:
    """Where verdicts go: a file, or standard output. Use as a context manager.

    Attributes:
        written: records written so far.

    Raises:
        InputError: the file cannot be opened; nothing was scored.
        SandboxError: nothing more can be written, say because the disk is full.
    """

    def __init__(self, path: Path | None) -> None:
        self.written = 0
        self._path = path
        if path is None and sys.stdout is None:
            raise InputError("standard output is closed: write to a file with --out")
        try:
            self._stream: BinaryIO = sys.stdout.buffer if path is None else path.open("wb")
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}; nothing was scored") from None

    def write(self, record: dict[str, Any]) -> None:
        """Write one record."""
        # Half a character becomes the JSON escape that it came as.
        line = json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
        with self._guarded():
            self._stream.write(line)
        self.written += 1

    def __enter__(self) -> _Output:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            with self._guarded():
                self._stream.flush()
        finally:
            if self._path is not None:
                self._stream.close()

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # What is still in the buffer cannot be written, not even at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            if isinstance(error, BrokenPipeError):
                # Whoever read standard output has seen enough.
                raise typer.Exit(1) from None
            name = self._path or "standard output"
            raise SandboxError(f"{name}: {error.strerror}; what was written is incomplete") from None


def _scored(source: BinaryIO, file: Path, pool: Pool, record_seconds: float, errors: Console) -> Iterator[ScoredLine]:
    """The results, with a progress bar on a terminal."""
    total = None
    try:
        if source.seekable():
            total = sum(1 for _ in source)
            source.seek(0)
        with Progress(console=errors, disable=not errors.is_terminal) as progress:
            task = progress.add_task("scoring", total=total)
            yield from score_lines(source, pool, record_seconds, lambda done: progress.update(task, completed=done))
    except OSError as error:
        raise SandboxError(f"{file}: {error.strerror}") from None


def _one_line(problem: str) -> str:
    return " ".join(problem.split())[:_LONGEST_PROBLEM].encode("utf-8", "backslashreplace").decode()


def _announce(pool: Pool) -> None:
    """Tell what isolates programs and what they can do here.

    Raises:
        SandboxError: nothing isolates them.
    """
    runner = pool.runner(3 * pool.config.start_seconds)
    _say(f"isolation of programs: {runner.isolation()}")
    _say("fetch_files: available" if runner.can_write() else f"no fetch_files: {NO_SCRATCH}")


def _say(text: str) -> None:
    """One line on standard error, if there is one."""
    lasting(Console(stderr=True)).print(text, markup=False, highlight=False, soft_wrap=True)


def _opened(stack: ExitStack, file: Path) -> BinaryIO:
    try:
        return stack.enter_context(file.open("rb"))
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}") from None


def _must_not_be_input(out: Path | None, file: Path) -> None:
    with contextlib.suppress(OSError):
        if out is not None and out.samefile(file):
            raise InputError(f"{out} is the input; write to another file")


def _token(file: Path | None) -> str | None:
    if file is not None:
        return read_secret(file)
    given = os.environ.get(TOKEN_VARIABLE)
    return require_word(given, TOKEN_VARIABLE) if given else None


@contextlib.contextmanager
def _exit_codes() -> Iterator[None]:
    """Turn an error of ours into one line on standard error and its exit code."""
    try:
        yield
    except SandboxError as error:
        _say(f"leeway: {' '.join(str(error).split())}")
        raise typer.Exit(error.exit_code) from None


def main() -> None:
    """This command line without the rest of `leeway`."""
    with Interrupts() as interrupts:
        try:
            app()
        except SystemExit as end:
            sys.exit(interrupts.exit_code if end.code == INTERRUPTED else end.code)


if __name__ == "__main__":
    main()
