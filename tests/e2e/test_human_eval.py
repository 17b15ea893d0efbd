"""All canonical solutions of HumanEval pass, and exactly those mutants that its tests can tell apart fail."""

from __future__ import annotations

import ast

import pytest

from benchmarks.human_eval import measure, mutants, problems, source


def test_every_problem_has_a_mutant_that_is_always_the_same() -> None:
    found = problems()
    assert len(found) == 164
    made = mutants(found)
    assert made.keys() == found.keys()
    assert all(
        ast.dump(ast.parse(program)) != ast.dump(ast.parse(source(found[name]))) for name, program in made.items()
    )
    assert made == mutants(found)


@pytest.mark.timeout(600)
def test_no_solution_and_no_mutant_is_judged_wrongly() -> None:
    report = measure(1)
    [run] = report.runs
    assert run.false == []
    assert run.canonical_passed == run.plain_passed == report.problems == 164
    assert run.changed_failed == report.changed > 100
    assert run.unchanged_passed == report.mutants - report.changed
