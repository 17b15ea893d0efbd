"""The labelled pairs of answers through the pool and through math-verify alone, and the slowest checks."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from rich.table import Table
from rich.text import Text

from benchmarks.math_pairs import HOSTILE, PAIRS
from benchmarks.processes import Watcher
from benchmarks.terminal import console, say
from sandbox import Pool, RewardConfig, SandboxConfig, Status, Submission

DOCUMENT = Path(__file__).with_name("MATH.md")
# What a hostile answer is compared with: something that only an algebra system could decide.
_AGAINST = "42x+1"
_SLOWEST = 5

Pair = tuple[str, str, bool]


@dataclass(frozen=True, slots=True)
class Report:
    """What was found.

    Attributes:
        pairs: how many labelled pairs.
        wrong: pairs that the pool judges wrongly; must be empty.
        math_verify_wrong: pairs that math-verify alone judges wrongly.
        hostile: how many answers that are out to cost time.
        passed: those of them that pass; must be empty.
        slowest: wall time and answer of the slowest checks, hostile ones included, seconds.
        worker_bytes: largest resident memory of one grader worker.
    """

    pairs: int
    wrong: list[Pair]
    math_verify_wrong: list[Pair]
    hostile: int
    passed: list[str]
    slowest: list[tuple[float, str]]
    worker_bytes: int


def run(json_path: Path | None = None, *, write: bool = False) -> None:
    """Judge every pair, print what was found, and write it to `json_path` and, if asked, to the document."""
    report = measure()
    table = Table("expected", "given", "is right", title="What math-verify alone gets wrong", title_justify="left")
    for expected, given, right in report.math_verify_wrong:
        table.add_row(Text(expected), Text(given), "yes" if right else "no")
    console.print(table)
    say(f"math-verify {version('math-verify')}: {len(report.math_verify_wrong)} of {report.pairs} pairs wrong")
    say(f"ours: {len(report.wrong)} of {report.pairs} pairs wrong")
    for pair in report.wrong:
        say(str(pair), indent=2)
    say(f"ours: {len(report.passed)} of {report.hostile} hostile answers passed")
    for answer in report.passed:
        say(answer, indent=2)
    say("slowest checks:")
    for seconds, answer in report.slowest:
        say(f"{seconds:6.3f} s  {answer}", indent=2)
    say(f"largest worker: {report.worker_bytes / 2**20:.0f} MiB")
    if json_path is not None:
        json_path.write_text(json.dumps(asdict(report), indent=2) + "\n", encoding="utf-8")
    if write:
        DOCUMENT.write_text(document(report.math_verify_wrong), encoding="utf-8")


def measure() -> Report:
    """Judge every pair and every hostile answer once, in one pool, one after the other."""
    wrong, passed, times = [], [], []
    watcher = Watcher(every_seconds=0.02)
    watcher.start()
    with Pool(SandboxConfig(workers=1, cache_entries=0), RewardConfig()) as pool:
        # The first check of a pool waits for an interpreter and its imports; later ones, even after a kill, do not.
        pool.score([Submission("math", "<answer>y+x</answer>", {"answer": "x+y+0z"})], 60)
        for expected, given, right in [*PAIRS, *((_AGAINST, answer, False) for answer in HOSTILE)]:
            [verdict] = pool.score([Submission("math", f"<answer>{given}</answer>", {"answer": expected})], 60)
            times.append((verdict.seconds, given[:60]))
            if given in HOSTILE:
                passed += [given] if verdict.status is Status.OK else []
            elif verdict.status is not (Status.OK if right else Status.WRONG):
                wrong.append((expected, given, right))
    watcher.end()
    slowest = sorted(times, reverse=True)[:_SLOWEST]
    return Report(len(PAIRS), wrong, math_verify_wrong(), len(HOSTILE), passed, slowest, watcher.worker_bytes)


def math_verify_wrong() -> list[Pair]:
    """The pairs that math-verify judges wrongly when it is called as its documentation shows."""
    import math_verify

    found = []
    for expected, given, right in PAIRS:
        gold = math_verify.parse(f"\\boxed{{{expected}}}", parsing_timeout=None)
        answer = math_verify.parse(f"\\boxed{{{given}}}", parsing_timeout=None)
        if math_verify.verify(gold, answer, timeout_seconds=None) is not right:
            found.append((expected, given, right))
    return found


def document(wrong: list[Pair]) -> str:
    """The list of those pairs, as Markdown."""
    false_passes = [pair for pair in wrong if not pair[2]]
    lines = [
        "# What math-verify alone gets wrong",
        "",
        f"Of the {len(PAIRS)} labelled pairs in `benchmarks/math_pairs.py` math-verify {version('math-verify')} judges "
        f"{len(wrong)} wrongly: {len(false_passes)} pass that should not, {len(wrong) - len(false_passes)} fail that "
        "should pass. Ours judges all of them rightly. Both answers are given in `\\boxed{}`.",
        "",
        "Made by `python -m benchmarks math --write`.",
        "",
        "| expected | given | is right |",
        "|---|---|---|",
        *(f"| {_code(expected)} | {_code(given)} | {'yes' if right else 'no'} |" for expected, given, right in wrong),
    ]
    return "\n".join([*lines, ""])


def _code(text: str) -> str:
    return "`" + text.replace("|", "\\|") + "`" if text else ""
