"""Coverage-guided fuzzing of what reads hostile bytes: the value decoder with its comparisons, and the HTTP server.

    pip install atheris
    python -m benchmarks sandbox-fuzz values --seconds 600
    python -m benchmarks sandbox-fuzz http --seconds 600

An exception that the interface does not promise, an answer that it does not know, or a minute without one end the
run with the input in a file `crash-…`; give that file as `--input` to see it again. The tests of `make test` look at
the same two places with hypothesis, for seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import sys
import tempfile
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any, NoReturn

import atheris

with atheris.instrument_imports(include=["sandbox"], enable_loader_override=False):
    from sandbox import Pool, RewardConfig, SandboxConfig
    from sandbox.jail import values
    from sandbox.programs import driver
    from sandbox.programs import outcome as outcomes
    from sandbox.programs.matching import output_matches, value_matches
    from sandbox.server import make_app
    from sandbox.verifiers import programs

TOKEN = "token"
PATHS = ("/run_code", "/verify", "/metrics", "/healthz", "/v1/ping", "/", "/run_code/", "/verify?x=1")
# What the server may answer whatever it is sent; 500 is not among them.
ANSWERS = frozenset({200, 307, 400, 401, 404, 405, 413, 422, 503})
EXPECTED: tuple[Any, ...] = (None, 1, 0.5, "a", b"a", 1j, [1, "a"], (1, 2), {1, 2}, {"a": [1]}, {1: {"b": (None,)}})
FIELDS = (
    "code", "language", "stdin", "compile_timeout", "run_timeout", "memory_limit_MB", "files", "fetch_files",
    "submissions", "deadline_seconds", "verifier", "response", "reference", "prompt", "truncated", "length", "answer",
    "tests", "entry", "test", "stdout", "tolerance", "raw", "checker", "time_limit_seconds", "partial_credit", "setup",
)  # fmt: skip
WORDS = (
    "python", "print(1)", "a/b", "../x", "/etc/passwd", "eA==", "exact", "numeric", "math", "stdio", "function",
    "assert", "```python\ndef f(x):\n    return x\n```", "<answer>1</answer>", "f", "1", "def check(c): assert c(1)",
)  # fmt: skip
VALUE_SEEDS = tuple(values.encode(value).encode() for value in EXPECTED)
HTTP_SEEDS = tuple(
    bytes([first]) + json.dumps(body).encode()
    for first in range(16)
    for body in (
        {"code": "print(input())", "stdin": "1", "language": "python", "files": {"a": "eA=="}, "fetch_files": ["a"]},
        {"submissions": [{"verifier": "exact", "response": "<answer>1</answer>", "reference": {"answer": "1"}}]},
        {
            "submissions": [
                {"verifier": "function", "response": WORDS[11], "reference": {"entry": "f", "tests": [[[1], 1]]}}
            ]
        },
    )
)
DICTIONARY = (
    '["l",',
    '["d",',
    '["s",',
    '["i","0x',
    '["f","',
    '["b","',
    '["c","',
    '"nan"',
    '"inf"',
    "1e",
    "null,",
    '"]',
    "{",
)


def value_target(data: bytes) -> None:
    """The decoder refuses or decodes; what it decodes survives a round trip; comparisons answer yes or no."""
    with contextlib.suppress(values.ValueEncodingError):
        value = values.decode(data)
        again = values.decode(values.encode(value))
        if not _has_nan(value) and again != value:
            raise AssertionError(f"{value!r} came back as {again!r}")
    for expected in EXPECTED:
        if value_matches(expected, data) not in (True, False):
            raise AssertionError("a comparison must be decided")
    half = len(data) // 2
    output_matches(data[:half], data[half:])
    if not output_matches(data, data):
        raise AssertionError("an output must match itself")
    # The judge's side of the messages that children send.
    outcomes._claimed_error([data])
    with contextlib.suppress(ValueError):
        driver._message(data)
    outcome = outcomes.Outcome(None, "", b"", b"", [data], 0, 0.0, 0.0, 0)
    if (result := programs.result_of(outcome)) is not None:
        value_matches(1, result)


def http_target(app: Callable[..., Any], loop: asyncio.AbstractEventLoop) -> Callable[[bytes], None]:
    """One request made of the fuzzer's bytes, answered with one of the promised status codes."""

    def target(data: bytes) -> None:
        source = atheris.FuzzedDataProvider(data[:1])
        shaped = source.ConsumeBool()
        path = source.PickValueInList(list(PATHS))
        good = f"Bearer {TOKEN}".encode()
        method, token, headers = "POST", good, [(b"content-type", b"application/json")]
        if shaped:
            source = atheris.FuzzedDataProvider(data[1:])
            body = json.dumps(_request(source, path)).encode("utf-8", "surrogatepass")
            if source.ConsumeIntInRange(0, 9) == 9:
                method = source.PickValueInList(["GET", "PUT", "\xff"])
                token = source.ConsumeBytes(20)
                headers.append((b"content-length", source.ConsumeBytes(8)))
        else:
            body = data[1:]
        status = loop.run_until_complete(_status(app, method, path, [*headers, (b"authorization", token)], body))
        if status not in ANSWERS:
            raise AssertionError(f"{method} {path} was answered with {status}")
        if token != good and path not in ("/healthz", "/v1/ping") and status != 401:
            raise AssertionError(f"{path} was served to the token {token!r}")

    return target


async def _status(
    app: Callable[..., Any], method: str, path: str, headers: list[tuple[bytes, bytes]], body: bytes
) -> int:
    where, _, query = path.partition("?")
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
             "path": where, "raw_path": where.encode(), "query_string": query.encode(), "headers": headers,
             "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1), "root_path": "", "state": {}}  # fmt: skip
    half = len(body) // 2
    parts = [{"type": "http.request", "body": body[:half], "more_body": True},
             {"type": "http.request", "body": body[half:], "more_body": False}]  # fmt: skip
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return parts.pop(0) if parts else {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return int(sent[0]["status"])


def _request(source: atheris.FuzzedDataProvider, path: str) -> Any:
    """A body with the fields that let it past the first look, or any tree at all."""
    kind = source.ConsumeIntInRange(0, 7)
    if kind == 0:
        return _tree(source, 5)
    extra = _tree(source, 3)
    extra = extra if isinstance(extra, dict) else {}
    if path.startswith("/run_code"):
        return {"code": source.ConsumeUnicode(60), "language": "python", **extra}
    reference = _tree(source, 4)
    reference = reference if isinstance(reference, dict) else {"answer": reference, "tests": [reference]}
    response = source.PickValueInList(list(WORDS)) if kind < 6 else source.ConsumeUnicode(60)
    verifier = source.PickValueInList(["exact", "numeric", "math", "stdio", "function", "assert"])
    return {"submissions": [{"verifier": verifier, "response": response, "reference": reference, **extra}]}


def _tree(source: atheris.FuzzedDataProvider, depth: int) -> Any:
    """A JSON value that uses the words of the protocol more often than chance would."""
    kind = source.ConsumeIntInRange(0, 9)
    if depth and kind <= 3:
        names = [source.PickValueInList(list(FIELDS)) for _ in range(source.ConsumeIntInRange(0, 6))]
        return {name: _tree(source, depth - 1) for name in names}
    if depth and kind == 4:
        return [_tree(source, depth - 1) for _ in range(source.ConsumeIntInRange(0, 4))]
    if kind == 5:
        return source.ConsumeUnicode(20)
    if kind == 6:
        return source.ConsumeInt(4)
    if kind == 7:
        return source.PickValueInList([True, False, None, 1e308, -1, 0.1, 2**70])
    return source.PickValueInList(list(WORDS))


def _has_nan(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_nan(part) for pair in value.items() for part in pair)
    if isinstance(value, list | tuple | set | frozenset):
        return any(map(_has_nan, value))
    return isinstance(value, float | complex) and (math.isnan(value.real) or math.isnan(value.imag))


def run(target: str, seconds: int, saved: Path | None) -> int:
    """Fuzz `target` in a child process for some time, or run one saved input; the exit status of the child."""
    with tempfile.TemporaryDirectory(prefix="leeway-fuzz-") as directory:
        # libFuzzer ends its process without any clean-up, so it gets one of its own.
        child = os.fork()
        if child == 0:
            _fuzz(target, seconds, saved, Path(directory))
        status = os.waitpid(child, 0)[1]
    return os.waitstatus_to_exitcode(status)


def _fuzz(name: str, seconds: int, saved: Path | None, directory: Path) -> NoReturn:
    corpus, words = directory / "corpus", directory / "words"
    corpus.mkdir()
    for number, seed in enumerate(VALUE_SEEDS if name == "values" else HTTP_SEEDS):
        (corpus / f"seed-{number}").write_bytes(seed)
    words.write_text("".join(f"{json.dumps(word)}\n" for word in DICTIONARY))
    target: Callable[[bytes], None] = value_target
    if name == "http":
        config = SandboxConfig(workers=1, test_seconds=0.5, cpu_seconds=1.0, grader_seconds=0.5)
        app = make_app(Pool(config, RewardConfig()), token=TOKEN, max_body_bytes=65536)
        target = http_target(app, asyncio.new_event_loop())
    what = [str(saved)] if saved else [str(corpus), f"-max_total_time={seconds}"]
    limits = [f"-dict={words}", "-max_len=8192", "-len_control=0", "-timeout=60", "-rss_limit_mb=4096"]
    atheris.Setup([sys.argv[0], *what, *limits], target)
    atheris.Fuzz()
    raise AssertionError("libFuzzer does not return")
