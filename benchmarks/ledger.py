"""`python -m benchmarks ledger`: the state machine of the ledger, explored by hypothesis for many steps.

Anybody does anything in any order, and the process dies at any step; what must hold is said in
`tests.unit.actors.replay.ledger_machine`. The suite takes a few thousand steps, this as many as it is told.
"""

from __future__ import annotations

import time

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from benchmarks.terminal import say
from tests.unit.actors.replay.ledger_machine import LedgerMachine

#: Calls of the ledger in a history; histories are many, since most faults show within a few dozen.
HISTORY_STEPS = 60


def run(steps: int) -> None:
    """Take steps until `steps` calls and crashes were made; the first violation is raised with its shortest history."""
    LedgerMachine.steps.clear()
    start, histories = time.monotonic(), 0
    while (taken := LedgerMachine.steps.total()) < steps:
        examples = max(10, (steps - taken) // HISTORY_STEPS)
        run_state_machine_as_test(
            LedgerMachine,
            settings=settings(
                max_examples=examples,
                stateful_step_count=HISTORY_STEPS,
                deadline=None,
                database=None,
                phases=(Phase.generate, Phase.shrink),
                suppress_health_check=list(HealthCheck),
            ),
        )
        histories += examples
    seconds = time.monotonic() - start
    found = ", ".join(f"{count:,} {name}" for name, count in LedgerMachine.steps.most_common())
    say(f"{LedgerMachine.steps.total():,} steps in {histories:,} histories and {seconds:.0f} s without a violation:")
    say(found, indent=2)
