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
from sandbox.jail.rpc import MAX_LINE, MAX_PRINTED
from sandbox.jail.values import ValueEncodingError, encode, load
from sandbox.programs.fork_server import ProgramForkServer
from sandbox.programs.outcome import Outcome, outcome_of
from sandbox.programs.run import Run
from sandbox.programs.runner import ATTEMPTS, ProgramRunner
from sandbox.verdict import Grade, Status

_MAX_NAMES = 12
_NOT_PLAIN = encode(("the program returned what is not a plain value",))


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
            raise _broken(_outcome(testing, limit, ours))
        ready = [serving.read_line(), serving.read_line()]
        if ready[-1] is None:
            return _program_failed(_outcome(serving, limit, ours))
        calls = 0
        while (line := testing.read_line()) is not None:
            message = _message(line)
            if "call" not in message:
                return _conclude(message, calls)
            calls += 1
            reply = _ask(serving, message["call"])
            if reply is None:
                return _program_failed(_outcome(serving, limit, ours))
            if not testing.write(reply + b"\n"):
                break
        outcome = _outcome(testing, limit, ours)
    # The tests spend their time on what the program returned: a value that makes them run on is its failure.
    if outcome.ended is Status.TIMEOUT or outcome.ended is Status.MEMORY:
        return Grade(outcome.ended, detail=f"tests: {outcome.detail}")
    # So is one that makes them crash, or call with more than may be sent.
    if calls and (testing.killed == "output" or outcome.exit_code < 0):
        return Grade(Status.WRONG, detail=f"tests: {outcome.detail}")
    raise _broken(outcome)


def _ask(serving: Run, call: Any) -> bytes | None:
    """One call's reply, or None if the program does not give one in time."""
    if not isinstance(call, str):
        raise BadReferenceError("the tests sent a malformed call")
    if not serving.write(call.encode() + b"\n"):
        serving.wait()
        return None
    line = serving.read_line()
    if line is None:
        return None
    try:
        return json.dumps(_checked(_message(line))).encode()
    except (ValueEncodingError, KeyError, TypeError, ValueError):
        return json.dumps({"raised": ["ValueError"], "args": _NOT_PLAIN}).encode()


def _checked(reply: dict[str, Any]) -> dict[str, Any]:
    """A reply with nothing in it but what a reply may hold.

    Raises:
        ValueEncodingError, KeyError, TypeError: it is malformed.
    """
    printed = reply.get("printed", "")
    passed: dict[str, Any] = {"printed": printed[:MAX_PRINTED]} if isinstance(printed, str) and printed else {}
    if "value" in reply:
        load(reply["value"])
        return {"value": reply["value"], **passed}
    load(reply["args"])
    names = [name[:60] for name in reply["raised"][:_MAX_NAMES] if isinstance(name, str)]
    return {"raised": names, "args": reply["args"], **passed}


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


def _conclude(message: dict[str, Any], calls: int) -> Grade:
    if message.get("passed") is True:
        if calls == 0:
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
