"""A whole run whose workers hang and whose groups are all dropped: what its user is told, and how it ends."""

import signal
from collections.abc import Callable

import pytest

from tests.e2e.conftest import ENDLESS, Run, suspend

pytestmark = pytest.mark.e2e

#: Every completion is right, so that every group is dropped; eight groups or so a second.
HOPELESS = {
    "steps": ENDLESS,
    "cold_start": "null",
    "generators.engine": "synthetic",
    "generators.synthetic.pass_rate": "1.0",
    "generators.synthetic.mean_tokens": "24",
    "generators.synthetic.tokens_per_second": "48",
    "evaluation.samples": "1",
    "replay.drop_zero_variance": "true",
    "controller.hang_seconds": "16",
    "controller.fruitless_batches": "20",
}


def test_who_hangs_is_named_and_taken_back_or_replaced_and_a_run_without_a_batch_ends(
    start: Callable[..., Run],
) -> None:
    run = start(seconds=400.0, **HOPELESS)

    run.wait_for("training", lambda: run.happened("phase", name="training"))
    generator, verifier = run.named("ray::Generator"), run.named("ray::Verifier")
    # First the verifier: while it stands still no group is dropped, of which so many in a row end the run.
    suspend(verifier)
    run.wait_for("a silent verifier", lambda: run.happened("unresponsive", role="verifier", state="silent"))
    suspend(generator)
    run.wait_for("a silent generator", lambda: run.happened("unresponsive", role="generator", state="silent"))
    generator.send_signal(signal.SIGCONT)
    run.wait_for("its return", lambda: run.happened("unresponsive", role="generator", state="back"))
    run.wait_for("another verifier", lambda: run.happened("restart", role="verifier"))
    assert run.end() == 1
    text = run.text()
    for said in ("generator-3 is silent", "generator-3 is back", "warning: Not at work: verifier-4 is silent"):
        assert said in text
    assert "restarted verifier-4: it was not heard of for " in text
    assert not run.happened("restart", role="generator")
    last = text.strip().splitlines()[-1]
    for said in ("groups were dropped in a row without one batch", "zero_variance", "tasks.sources"):
        assert said in last
