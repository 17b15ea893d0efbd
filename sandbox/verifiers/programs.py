"""Model-written programs: stdin/stdout, function calls, and assert-style tests.

The process that runs the program emits values; expected values stay here (or, for assert-style tests, in a second
sandbox that runs the trusted tests) and never meet it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from sandbox.code_blocks import last_program
from sandbox.errors import BadReferenceError
from sandbox.jail import values
from sandbox.programs.driver import run_tests
from sandbox.programs.matching import DEFAULT_TOLERANCE, output_matches, value_matches
from sandbox.programs.outcome import Outcome
from sandbox.programs.runner import ProgramRunner
from sandbox.prompts import before_program, before_tests
from sandbox.registry import verifier
from sandbox.verdict import Grade, Status, Submission

MAX_PROGRAM_CHARS = 200_000
MAX_TIMEOUTS = 3
_COMMON_KEYS = ("raw", "time_limit_seconds")
_GUARD = """

def _guarded_check(*arguments, _check=check):
    try:
        return _check(*arguments)
    except BaseException:
        return "raised"
"""


def programs_of(submission: Submission) -> list[str]:
    """The program of a response (see `code_blocks`). With the reference's `raw`, first of all the whole response.

    Of several the first that compiles counts: a whole response with fences only does if they stand in its strings.
    """
    entry = submission.reference.get("entry")
    block = last_program(submission.response, entry if isinstance(entry, str) else "")
    whole = [submission.response] if submission.reference.get("raw") is True else []
    # Editors begin files with a byte order mark, which is no part of the program.
    return [program.removeprefix("\ufeff") for program in (*whole, block) if program is not None]


def unusable(submission: Submission) -> Grade | None:
    """The grade of a response that holds no program worth a process; None if it holds one."""
    programs = programs_of(submission)
    if not programs:
        return Grade(Status.UNPARSEABLE, detail="no fenced block with a program")
    if not any(program.strip() for program in programs):
        return Grade(Status.UNPARSEABLE, detail="the program is empty")
    if any("\0" in program for program in programs):
        return Grade(Status.UNPARSEABLE, detail="the program contains NUL characters")
    if max(map(len, programs)) > MAX_PROGRAM_CHARS:
        return Grade(Status.UNPARSEABLE, detail=f"the program is longer than {MAX_PROGRAM_CHARS} characters")
    return None


def cache_key(submission: Submission) -> str:
    """What decides a program's verdict besides reference and prompt."""
    return json.dumps(programs_of(submission))


def _stdio_tests(submission: Submission) -> Sequence[Any]:
    """The tests of a usable reference. Raises BadReferenceError."""
    tests = _tests(submission)
    if not all(isinstance(test, dict) and isinstance(test.get("stdout"), str) for test in tests):
        raise BadReferenceError('every test of a stdio reference needs "stdin" and "stdout" as text')
    _tolerance(submission)
    _seconds(submission)
    return tests


def _function_tests(submission: Submission) -> Sequence[Any]:
    """The tests of a usable reference. Raises BadReferenceError."""
    tests = _tests(submission)
    if not all(
        isinstance(test, list | tuple) and len(test) == 2 and isinstance(test[0], list | tuple) for test in tests
    ):
        raise BadReferenceError("every test of a function reference is [args, expected], args being a list")
    _entry(submission)
    _tolerance(submission)
    _seconds(submission)
    return tests


def _assertions(submission: Submission) -> str:
    """The source of the tests of a usable reference. Raises BadReferenceError."""
    test = submission.reference.get("test")
    if isinstance(test, list) and all(isinstance(line, str) for line in test):
        test = "\n".join(test)
    if not isinstance(test, str) or not test.strip():
        raise BadReferenceError('an assert reference needs "test", the source of the tests')
    _entry(submission)
    _seconds(submission)
    return test


@verifier(
    "stdio",
    program=True,
    fast_path=unusable,
    cache_key=cache_key,
    reference_keys=("tests", "checker", "tolerance", "partial_credit", *_COMMON_KEYS),
    check_reference=_stdio_tests,
)
def stdio(submission: Submission, runner: ProgramRunner) -> Grade:
    """`{"tests": [{"stdin", "stdout"}], "tolerance"?, "checker"?, "partial_credit"?, "time_limit_seconds"?, "raw"?}`.

    Output is compared token by token (see `programs.matching.output_matches`), unless `checker` holds the source of a
    trusted function `check(stdin, output, expected)` that returns a bool or a score; it runs in a sandbox of its own.
    """
    tests = _stdio_tests(submission)
    job, seconds = {"kind": "stdio", "sources": programs_of(submission)}, _seconds(submission)
    checker, tolerance = submission.reference.get("checker"), _tolerance(submission)

    def passes(test: Any) -> Grade:
        stdin = str(test.get("stdin", ""))
        outcome = runner.run(job, stdin.encode("utf-8", "surrogatepass"), streams=True, seconds=seconds)
        if outcome.ended is not None:
            return Grade(outcome.ended, detail=outcome.detail)
        if checker is not None:
            return _checked(runner, str(checker), stdin, outcome.stdout, test["stdout"])
        expected = test["stdout"].encode("utf-8", "surrogatepass")
        return Grade.of(output_matches(expected, outcome.stdout, tolerance), "wrong output")

    return _all(submission, runner, tests, passes)


@verifier(
    "function",
    program=True,
    fast_path=unusable,
    cache_key=cache_key,
    reference_keys=("entry", "tests", "tolerance", "partial_credit", *_COMMON_KEYS),
    check_reference=_function_tests,
)
def function(submission: Submission, runner: ProgramRunner) -> Grade:
    """`{"entry", "tests": [[args, expected], …], "tolerance"?, "partial_credit"?, "time_limit_seconds"?, "raw"?}`.

    `entry` names a function, a method as `Solution.name`, or a method of the class `Solution`.
    """
    tests = _function_tests(submission)
    job = {"kind": "function", "sources": _sources(submission), "entry": _entry(submission)}
    seconds, tolerance = _seconds(submission), _tolerance(submission)

    def passes(test: Any) -> Grade:
        args, expected = test
        outcome = runner.run({**job, "args": values.encode(list(args))}, seconds=seconds)
        if outcome.ended is not None:
            return Grade(outcome.ended, detail=outcome.detail)
        result = result_of(outcome)
        return Grade.of(result is not None and value_matches(expected, result, tolerance), "wrong result")

    return _all(submission, runner, tests, passes)


@verifier(
    "assert",
    program=True,
    fast_path=unusable,
    cache_key=cache_key,
    reference_keys=("entry", "test", "setup", "mutates", *_COMMON_KEYS),
    check_reference=_assertions,
)
def assertion(submission: Submission, runner: ProgramRunner) -> Grade:
    """`{"entry", "test": "<source with check(candidate), or asserts>", "setup"?, "mutates"?, …}`.

    The last two are `time_limit_seconds` and `raw`, as above.

    The test source is trusted. It runs in a sandbox of its own, where `entry` and `candidate` are proxies whose calls
    are answered by a second sandbox with the program. The submission's prompt (HumanEval's form) may precede it.
    """
    test = _assertions(submission)
    setup = submission.reference.get("setup", "")
    program = {"kind": "serve", "sources": _sources(submission), "entry": _entry(submission)}
    tests = {
        "kind": "test",
        "setup": before_tests(submission.prompt),
        "source": f"{setup}\n{test}",
        "entry": _entry(submission),
        "mutates": submission.reference.get("mutates") is True,
    }
    return run_tests(runner, program, tests, _seconds(submission))


def result_of(outcome: Outcome) -> bytes | str | None:
    """The encoded result in a finished function run, or None if there is not exactly one."""
    if len(outcome.lines) != 1:
        return None
    try:
        message = json.loads(outcome.lines[0])
    except (ValueError, RecursionError):
        return None
    encoded = message.get("value") if isinstance(message, dict) else None
    return encoded if isinstance(encoded, str) else None


def _all(submission: Submission, runner: ProgramRunner, tests: Sequence[Any], passes: Callable[[Any], Grade]) -> Grade:
    """All tests, up to the first failure unless partial credit is asked for."""
    partial = bool(submission.reference.get("partial_credit", runner.config.partial_credit))
    failure: Grade | None = None
    score, waited = 0.0, 0
    for number, test in enumerate(tests, 1):
        grade = passes(test)
        score += grade.accuracy
        if grade.status is not Status.OK and failure is None:
            failure = Grade(grade.status, detail=f"test {number} of {len(tests)}: {grade.detail}")
            if not partial:
                return failure
            # The tests after that count as failed: a hundred that wait would hold up everybody else.
            waited += grade.status is Status.TIMEOUT
            if waited >= MAX_TIMEOUTS:
                break
    if failure is None:
        return Grade(Status.OK, 1.0)
    return Grade(failure.status, score / len(tests), failure.detail)


def _checked(runner: ProgramRunner, checker: str, stdin: str, output: bytes, expected: str) -> Grade:
    grade = _checker_grade(runner, checker, stdin, output.decode("utf-8", "replace"), expected)
    if grade is None:
        # Checkers stumble over output in no known form. One that stumbles over the expected output too is broken.
        if expected.strip() and _checker_grade(runner, checker, stdin, expected, expected) is None:
            raise BadReferenceError("the checker raises an exception, even about the expected output")
        return Grade(Status.WRONG, detail="the checker cannot read the output")
    return grade


def _checker_grade(runner: ProgramRunner, checker: str, stdin: str, output: str, expected: str) -> Grade | None:
    """The checker's grade, or None if it raised something.

    Raises:
        BadReferenceError: there is no such function, or it returns no score.
    """
    args = values.encode([stdin, output, expected])
    outcome = runner.run({"kind": "function", "sources": [checker + _GUARD], "entry": "_guarded_check", "args": args})
    if outcome.ended in (Status.TIMEOUT, Status.MEMORY):
        return Grade(outcome.ended, detail=f"checker: {outcome.detail}")
    result = result_of(outcome)
    if outcome.ended is not None or result is None:
        raise BadReferenceError(f"the checker failed: {outcome.detail}")
    verdict = values.decode(result)
    if verdict == "raised":
        return None
    if not isinstance(verdict, bool | int | float):
        raise BadReferenceError(f"the checker returned a {type(verdict).__name__}, not a bool or a score")
    return Grade.of(verdict, "refused by the checker")


def _sources(submission: Submission) -> list[str]:
    """What to run, the first that compiles: the program after its prompt if that is code, or the program alone."""
    return [part for program in programs_of(submission) for part in before_program(submission.prompt, program)]


def _entry(submission: Submission) -> str:
    entry = submission.reference.get("entry")
    if not isinstance(entry, str) or not all(part.isidentifier() for part in entry.split(".")):
        raise BadReferenceError('the reference needs "entry", the name of the function under test')
    return entry


def _tests(submission: Submission) -> Sequence[Any]:
    tests = submission.reference.get("tests")
    if not isinstance(tests, list | tuple) or not tests:
        raise BadReferenceError('the reference needs "tests", a list with at least one test')
    return tests


def _tolerance(submission: Submission) -> float:
    tolerance = submission.reference.get("tolerance", DEFAULT_TOLERANCE)
    if isinstance(tolerance, bool) or not isinstance(tolerance, int | float) or not 0 <= tolerance < 1:
        raise BadReferenceError(f"tolerance must be a number from 0 to below 1, it is {tolerance!r:.80}")
    return float(tolerance)


def _seconds(submission: Submission) -> float | None:
    seconds = submission.reference.get("time_limit_seconds")
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
        raise BadReferenceError(f"time_limit_seconds must be a positive number, it is {seconds!r:.80}")
    return float(seconds)
