"""How fast programs and answers are verified, beside what one would otherwise use."""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from sandbox import Pool, RewardConfig, SandboxConfig, Status, Submission

SECONDS = 5.0
PROGRAM = "a, b = map(int, input().split())\nprint(a + b)\n"
STDIN, STDOUT = "2 3\n", "5\n"
ANSWERS = (
    ("42", "42"), ("1/2", "0.5"), (r"\frac{3}{4}", r"\frac{6}{8}"), ("1,234", "1234"), (r"2\sqrt{2}", r"\sqrt{8}"),
    ("x^2+1", "1+x^2"), ("(1,2)", "(1, 2)"), (r"(-\infty,2)", "x<2"), (r"\{1,2\}", r"\{2,1\}"), ("5", "x=5"),
    ("-3", "-3"), ("12", r"12\%"), (r"90^\circ", "90"), ("0.25", r"\frac14"), (r"\pi", "3.14"), ("7", "8"),
    ("100", r"100\text{ cm}"),    (r"\frac{\pi}{2}", r"\frac12\pi"), ("3+4i", "4i+3"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Throughput:
    """One way of running the same small program.

    Attributes:
        name: what was measured.
        per_second: runs a second of wall time, one at a time.
        per_core_second: runs a second of CPU time, of every process that takes part.
        runs: how many were measured.
        note: why there is no figure, or "".
    """

    name: str
    per_second: float = 0.0
    per_core_second: float = 0.0
    runs: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Latency:
    """Times of answer checks, seconds."""

    name: str
    median: float
    p90: float
    worst: float


def run(json_path: Path | None = None) -> None:
    """Measure everything, print the tables, and write them to `json_path` if given."""
    throughputs = [_stdio(), _function(), _http(), _plain(), _bubblewrap()]
    latencies = [_our_mathematics(), _math_verify()]
    console = Console()
    console.print(_throughput_table(throughputs), _latency_table(latencies))
    if json_path is not None:
        report = {
            "machine": {"cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()},
            "load_average": os.getloadavg(),
            "programs": [asdict(item) for item in throughputs],
            "answers": [asdict(item) for item in latencies],
        }
        json_path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _stdio() -> Throughput:
    reference = {"tests": [{"stdin": STDIN, "stdout": STDOUT}]}
    return _through_pool("ours, stdin/stdout", Submission("stdio", f"```python\n{PROGRAM}```", reference))


def _function() -> Throughput:
    reference = {"entry": "add", "tests": [[[2, 3], 5]]}
    program = "```python\ndef add(a, b):\n    return a + b\n```"
    return _through_pool("ours, function", Submission("function", program, reference))


def _through_pool(name: str, submission: Submission) -> Throughput:
    with Pool(SandboxConfig(workers=1, cache_entries=0), RewardConfig()) as pool:

        def once() -> None:
            [verdict] = pool.score([submission], 60)
            if verdict.status is not Status.OK:
                raise RuntimeError(f"the benchmark's own program failed: {verdict}")

        return _measure(name, once)


def _http() -> Throughput:
    with _served() as url:
        body = json.dumps({"code": PROGRAM, "language": "python", "stdin": STDIN}).encode()

        def once() -> None:
            request = urllib.request.Request(url + "/run_code", body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=60) as response:
                if json.load(response)["run_result"]["stdout"] != STDOUT:
                    raise RuntimeError("the benchmark's own program failed over HTTP")

        return _measure("ours, HTTP /run_code", once)


@contextmanager
def _served() -> Iterator[str]:
    import uvicorn

    from sandbox.server import make_app

    with Pool(SandboxConfig(workers=1), RewardConfig()) as pool:
        server = uvicorn.Server(uvicorn.Config(make_app(pool), host="127.0.0.1", port=0, log_level="error"))
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            deadline = time.monotonic() + 30
            while not server.started:
                if time.monotonic() > deadline or not thread.is_alive():
                    raise RuntimeError("the HTTP server did not start")
                thread.join(0.01)
            port = server.servers[0].sockets[0].getsockname()[1]
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            thread.join(30)


def _plain() -> Throughput:
    return _spawning("plain python3 -I -S (no isolation)", [sys.executable, "-I", "-S", "-c", PROGRAM])


def _bubblewrap() -> Throughput:
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        return Throughput("bubblewrap", note="not installed")
    command = [
        bwrap,
        "--ro-bind",
        "/",
        "/",
        "--unshare-all",
        "--die-with-parent",
        sys.executable,
        "-I",
        "-S",
        "-c",
        PROGRAM,
    ]
    try:
        return _spawning("bubblewrap", command)
    except (OSError, RuntimeError) as error:
        return Throughput("bubblewrap", note=f"does not start here: {error}"[:80])


def _spawning(name: str, command: list[str]) -> Throughput:
    def once() -> None:
        ended = subprocess.run(command, input=STDIN, capture_output=True, text=True, timeout=60)
        if ended.stdout != STDOUT:
            raise RuntimeError(ended.stderr.strip()[-60:] or "wrong output")

    return _measure(name, once)


def _measure(name: str, once: Callable[[], None]) -> Throughput:
    for _ in range(3):
        once()
    runs, used, started = 0, _cpu_seconds(), time.perf_counter()
    while time.perf_counter() - started < SECONDS:
        once()
        runs += 1
    wall = time.perf_counter() - started
    return Throughput(name, runs / wall, runs / max(_cpu_seconds() - used, 1e-9), runs)


def _cpu_seconds() -> float:
    """CPU time of this process, its living and dead children, and theirs, seconds."""
    ticks, pending = 0, [os.getpid()]
    while pending:
        pid = pending.pop()
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(int(field) for field in fields[11:15])
            for listing in Path(f"/proc/{pid}/task").glob("*/children"):
                pending += map(int, listing.read_text().split())
        except OSError:
            continue
    return ticks / os.sysconf("SC_CLK_TCK")


def _our_mathematics() -> Latency:
    with Pool(SandboxConfig(workers=1, cache_entries=0), RewardConfig()) as pool:

        def once(expected: str, given: str) -> None:
            pool.score([Submission("math", f"\\boxed{{{given}}}", {"answer": expected})], 60)

        return _latencies("ours", once)


def _math_verify() -> Latency:
    import math_verify

    def once(expected: str, given: str) -> None:
        gold = math_verify.parse(f"\\boxed{{{expected}}}", parsing_timeout=None)
        math_verify.verify(gold, math_verify.parse(f"\\boxed{{{given}}}", parsing_timeout=None), timeout_seconds=None)

    return _latencies("math-verify alone", once)


def _latencies(name: str, once: Callable[[str, str], None]) -> Latency:
    for expected, given in ANSWERS:
        once(expected, given)
    times = []
    for repeat in range(5):
        for expected, given in ANSWERS:
            # Spaces make every text new, so that no parser's cache answers for it.
            started = time.perf_counter()
            once(expected, given + " " * (repeat + 1))
            times.append(time.perf_counter() - started)
    times.sort()
    return Latency(name, statistics.median(times), times[int(0.9 * len(times))], times[-1])


def _throughput_table(rows: list[Throughput]) -> Table:
    table = Table(title=f"Programs ({os.cpu_count()} cores, load {os.getloadavg()[0]:.1f})")
    for column in ("", "runs/s (one at a time)", "runs/s of CPU", "against plain spawn", "runs"):
        table.add_column(column, justify="left" if not column else "right")
    plain = next(row for row in rows if row.name.startswith("plain"))
    for row in rows:
        if row.note:
            table.add_row(row.name, row.note, "", "", "")
            continue
        ratio = row.per_core_second / plain.per_core_second
        table.add_row(row.name, f"{row.per_second:.0f}", f"{row.per_core_second:.0f}", f"{ratio:.1f}×", str(row.runs))
    return table


def _latency_table(rows: list[Latency]) -> Table:
    table = Table(title=f"Mathematical answers ({len(ANSWERS)} typical pairs)")
    for column in ("", "median ms", "p90 ms", "worst ms"):
        table.add_column(column, justify="left" if not column else "right")
    for row in rows:
        table.add_row(row.name, *(f"{1000 * value:.2f}" for value in (row.median, row.p90, row.worst)))
    return table


if __name__ == "__main__":
    run(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
