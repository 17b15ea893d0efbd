"""The test driver: trusted tests in one sandbox call the program in another, and neither sees the other.

The tests' process sends calls and finally its result; the program's process replies to calls with values. Both are
connected only to this driver, which forwards single lines after checking their form. The program cannot reach the
tests' process in any other way, and cannot write to the channel that reports that the tests passed.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Any

from sandbox.errors import BadReferenceError, DeadlineError, WorkerDiedError
from sandbox.jail.answering import MAX_PRINTED
from sandbox.jail.peers import MAX_LINE
from sandbox.jail.values import ValueEncodingError, encode, load
from sandbox.programs.fork_server import ProgramForkServer
from sandbox.programs.outcome import Outcome, outcome_of
from sandbox.programs.run import Run
from sandbox.programs.runner import ATTEMPTS, ProgramRunner
from sandbox.verdict import Grade, Status

_MAX_NAMES = 12
_NO_ARGS = encode(())
_NOT_PLAIN = encode(("the program returned what is not a value",))


def run_tests(runner: ProgramRunner, program: dict[str, Any], tests: dict[str, Any], seconds: float | None) -> Grade:
    """The grade of `program` (a "serve" job) under `tests` (a "test" job).

    Raises:
        BadReferenceError: the tests themselves are broken.
        DeadlineError, WorkerDiedError, WorkerStartError, IsolationError: as `ProgramRunner.run`.
    """
    died: WorkerDiedError | None = None
    for _ in range(ATTEMPTS):
        try:
            with runner.pair() as fork_server:
                return _drive(runner, fork_server, program, tests, seconds)
        except WorkerDiedError as error:
            died = error
    assert died is not None
    raise died


def _drive(
    runner: ProgramRunner,
    fork_server: ProgramForkServer,
    program: dict[str, Any],
    tests: dict[str, Any],
    seconds: float | None,
) -> Grade:
    limit, ours = runner.limit(seconds)
    with ExitStack() as stack:
        serving = stack.enter_context(Run(fork_server, program, runner.config, None, limit, False))
        testing = stack.enter_context(Run(fork_server, tests, runner.config, None, limit, False))
        if testing.read_line() is None:  # its lockdown's own line
            outcome = _outcome(testing, limit, ours)
            if testing.killed == "deadline":
                raise DeadlineError("the machine was too busy to start the tests")
            raise _broken(outcome)
        ready = [serving.read_line(), serving.read_line()]
        if ready[-1] is None:
            return _program_failed(_outcome(serving, limit, ours))
        asked = False
        while (line := testing.read_line()) is not None:
            if (conclusion := _conclusion(line)) is not None:
                return _conclude(conclusion)
            asked = True
            if (reply := _ask(serving, line)) is None:
                return _program_failed(_outcome(serving, limit, ours))
            if not testing.write(reply + b"\n"):
                break
        outcome = _outcome(testing, limit, ours)
    # The tests spend their time on what the program returned: a value that makes them run on is its failure.
    if outcome.ended is Status.TIMEOUT or outcome.ended is Status.MEMORY:
        return Grade(outcome.ended, detail=f"tests: {outcome.detail}")
    # So is one that makes them crash, or call with more than may be sent.
    if asked and (testing.killed == "output" or outcome.exit_code < 0):
        return Grade(Status.WRONG, detail=f"tests: {outcome.detail}")
    raise _broken(outcome)


def _conclusion(line: bytes) -> dict[str, Any] | None:
    """How the tests ended, or None if they go on."""
    head = line[:20]
    return _message(line) if head.startswith((b'{"passed"', b'{"failed"', b'{"unusable"')) else None


def _ask(serving: Run, line: bytes) -> bytes | None:
    """What the program sends in return for a line of the tests, or None if it sends nothing in time."""
    if not serving.write(line + b"\n"):
        serving.wait()
        return None
    answer = serving.read_line()
    if answer is None:
        return None
    try:
        return json.dumps(_checked(_message(answer))).encode()
    except (ValueEncodingError, KeyError, TypeError, ValueError):
        return json.dumps({"raised": ["ValueError"], "args": _NOT_PLAIN, "module": "builtins"}).encode()


def _checked(message: dict[str, Any]) -> dict[str, Any]:
    """A request or reply with nothing in it but what it may hold.

    Raises:
        ValueEncodingError, KeyError, TypeError: it is malformed.
    """
    printed = message.get("printed", "")
    passed: dict[str, Any] = {"printed": printed[:MAX_PRINTED]} if isinstance(printed, str) and printed else {}
    for kind in ("call", "value", "args", "object", "classes"):
        if kind in message:
            load(message[kind])
            passed[kind] = message[kind]
    if "call" in passed or "value" in passed:
        return passed
    passed["raised"] = [name[:60] for name in message["raised"][:_MAX_NAMES] if isinstance(name, str)]
    passed["module"] = str(message.get("module"))[:60]
    if type(message.get("own")) is int:
        passed["own"] = message["own"]
    return passed if "args" in passed else {**passed, "args": _NO_ARGS}


def _message(line: bytes) -> dict[str, Any]:
    if len(line) > MAX_LINE:
        raise ValueError("message too long")
    try:
        message = json.loads(line)
    except RecursionError:
        raise ValueError("message nested too deeply") from None
    if not isinstance(message, dict):
        raise ValueError("message is not an object")
    return message


def _conclude(message: dict[str, Any]) -> Grade:
    if message.get("passed") is True:
        if not message["calls"]:
            raise BadReferenceError("the tests never called the program")
        return Grade(Status.OK, 1.0)
    if "unusable" in message:
        raise BadReferenceError(f"the tests cannot be used: {message['unusable']!s:.200}")
    # Only the kind of failure: the message of an assertion may quote expected values.
    return Grade(Status.WRONG, detail=f"tests: {message.get('failed', 'failed')!s:.60}")


def _outcome(run: Run, limit: float, ours: bool) -> Outcome:
    usage = run.wait()
    if run.killed == "deadline" and ours:
        raise DeadlineError("the deadline passed while a program ran")
    return outcome_of(run, usage, limit)


def _program_failed(outcome: Outcome) -> Grade:
    if outcome.ended is None:
        return Grade(Status.WRONG, detail="the program ended before the tests did")
    return Grade(outcome.ended, detail=outcome.detail)


def _broken(outcome: Outcome) -> BadReferenceError:
    return BadReferenceError(f"the tests did not finish: {outcome.detail or f'exit status {outcome.exit_code}'}")
