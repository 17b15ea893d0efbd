"""How fast programs and answers are verified, beside what one would otherwise use."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table

from benchmarks.terminal import console, say
from sandbox import Pool, RewardConfig, SandboxConfig, Status, Submission

ROUNDS = 4
# Less than our isolation layers, but what is commonly used. Not with a process-id namespace: bubblewrap leaves the
# process in it unreaped, and so its CPU time uncounted.
BUBBLEWRAP = ["bwrap", "--ro-bind", "/", "/", "--unshare-user", "--unshare-ipc", "--unshare-net", "--unshare-uts"]
PLAIN = "python3 -I -S, not isolated"
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
        runs: how many were measured, one at a time.
        seconds: wall time they took.
        cpu_seconds: CPU time they took, of every process that takes part.
        note: why there is no figure, or "".
    """

    name: str
    runs: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    note: str = ""

    @property
    def per_second(self) -> float:
        """Runs a second of wall time."""
        return self.runs / self.seconds if self.seconds else 0.0

    @property
    def per_core_second(self) -> float:
        """Runs a second of CPU time."""
        return self.runs / self.cpu_seconds if self.cpu_seconds else 0.0

    def report(self) -> dict[str, str | int | float]:
        """For JSON."""
        return asdict(self) | {"per_second": self.per_second, "per_core_second": self.per_core_second}


@dataclass(frozen=True, slots=True)
class Latency:
    """Times of answer checks, seconds."""

    name: str
    median: float
    p90: float
    worst: float


def run(json_path: Path | None = None, seconds: float = 8.0) -> None:
    """Measure everything, print the tables, and write them to `json_path` if given.

    `seconds`: how long each contender runs, in all.
    """
    throughputs = _throughputs(seconds / ROUNDS)
    latencies = [_our_mathematics(), _math_verify()]
    console.print(_throughput_table(throughputs))
    for row in throughputs:
        if row.note:
            say(f"{row.name} {row.note}")
    print()
    console.print(_latency_table(latencies))
    if json_path is not None:
        report = {
            "machine": {"cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()},
            "load_average": os.getloadavg(),
            "programs": [item.report() for item in throughputs],
            "answers": [asdict(item) for item in latencies],
        }
        json_path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _throughputs(round_seconds: float) -> list[Throughput]:
    with ExitStack() as stack:
        stdio = Submission("stdio", f"```python\n{PROGRAM}```", {"tests": [{"stdin": STDIN, "stdout": STDOUT}]})
        program = "```python\ndef add(a, b):\n    return a + b\n```"
        function = Submission("function", program, {"entry": "add", "tests": [[[2, 3], 5]]})
        pool = stack.enter_context(Pool(SandboxConfig(workers=1, cache_entries=0), RewardConfig()))
        url = stack.enter_context(_served())
        plain = [sys.executable, "-I", "-S", "-c", PROGRAM]
        contenders: dict[str, Callable[[], None]] = {
            "ours, stdin/stdout": lambda: _score(pool, stdio),
            "ours, function": lambda: _score(pool, function),
            "ours, HTTP /run_code": lambda: _post(url),
            PLAIN: lambda: _spawn(plain),
            "bubblewrap": lambda: _spawn([*BUBBLEWRAP, *plain]),
        }
        rows = {name: _warmed(name, once) for name, once in contenders.items()}
        # In turns, so that what else happens on the machine happens to all of them.
        for _ in range(ROUNDS):
            for name, row in rows.items():
                if not row.note:
                    rows[name] = _measure(row, contenders[name], round_seconds)
        return list(rows.values())


def _score(pool: Pool, submission: Submission) -> None:
    [verdict] = pool.score([submission], 60)
    if verdict.status is not Status.OK:
        raise RuntimeError(f"the benchmark's own program failed: {verdict}")


def _post(url: str) -> None:
    body = json.dumps({"code": PROGRAM, "language": "python", "stdin": STDIN}).encode()
    request = urllib.request.Request(url + "/run_code", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        if json.load(response)["run_result"]["stdout"] != STDOUT:
            raise RuntimeError("the benchmark's own program failed over HTTP")


def _spawn(command: list[str]) -> None:
    ended = subprocess.run(command, input=STDIN, capture_output=True, text=True, timeout=60)
    if ended.stdout != STDOUT:
        raise RuntimeError(ended.stderr.strip()[-60:] or "wrong output")


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


def _warmed(name: str, once: Callable[[], None]) -> Throughput:
    """A row without figures yet; with a note, and for good, where it does not start."""
    try:
        for _ in range(3):
            once()
    except (OSError, RuntimeError) as error:
        if name == PLAIN or name.startswith("ours"):
            raise
        return Throughput(name, note=f"does not start here: {error}")
    return Throughput(name)


def _measure(so_far: Throughput, once: Callable[[], None], seconds: float) -> Throughput:
    runs, used, started = 0, _cpu_seconds(), time.perf_counter()
    while time.perf_counter() - started < seconds:
        once()
        runs += 1
    return Throughput(
        so_far.name,
        so_far.runs + runs,
        so_far.seconds + time.perf_counter() - started,
        so_far.cpu_seconds + _cpu_seconds() - used,
    )


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
    for column in ("", "runs/s", "per CPU second", "against plain", "runs"):
        table.add_column(column, justify="left" if not column else "right")
    plain = next(row for row in rows if row.name == PLAIN)
    for row in rows:
        if row.note:
            continue
        ratio = row.per_core_second / plain.per_core_second
        table.add_row(row.name, f"{row.per_second:.0f}", f"{row.per_core_second:.0f}", f"{ratio:.1f}×", str(row.runs))
    return table


def _latency_table(rows: list[Latency]) -> Table:
    table = Table(title=f"Mathematical answers ({len(ANSWERS)} typical pairs)")
    for column in ("", "median ms", "p90 ms", "worst ms"):
        table.add_column(column, justify="left" if not column else "right")
    ours, theirs = (row.median for row in rows)
    table.caption = f"median of ours: {theirs / ours:.1f}× faster"
    for row in rows:
        table.add_row(row.name, *(f"{1000 * value:.2f}" for value in (row.median, row.p90, row.worst)))
    return table
