"""Synthetic event sequences for the tests of actors.report: invented numbers, no run was made to get them."""

import math
import random
import resource
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from actors.events import (
    EvaluationDone,
    Event,
    GroupCounters,
    Phase,
    Restart,
    RewardModelDone,
    RolloutSample,
    StepDone,
    Tick,
    WeightSync,
)
from actors.report.recorder import RunRecorder
from actors.report.state import RunInfo, RunState

HOSTILE = (
    "<think>7+8=15</think><answer>15</answer><script>alert(1)</script><img src=x onerror=alert(1)>\x1b[31m\u202e\ud800"
)


def info(folder: Path = Path("runs/synthetic"), steps: int = 60, max_staleness: int = 4) -> RunInfo:
    """A run of `steps` steps."""
    return RunInfo(
        "synthetic", 7, folder, steps, max_staleness, 8, "learner:\n  optimizer:\n    learning_rate: 0.0003\n"
    )


def state_of(*events: Event, steps: int = 60, max_staleness: int = 4) -> RunState:
    """The state of a run after `events`."""
    state = RunState(info(steps=steps, max_staleness=max_staleness))
    for event in events:
        state.fold(event)
    return state


def record(folder: Path, events: Iterable[Event], resumed_at: int | None = None) -> RunState:
    """Write the run folder of a run of `events`."""
    with RunRecorder(info(folder), resumed_at=resumed_at) as recorder:
        for event in events:
            recorder.record(event)
    return recorder.state


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Inside, this process can write no file beyond `size` bytes: a disk that fills up."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def step(
    number: int,
    seconds: float | None = None,
    staleness: dict[int, int] | None = None,
    more: Mapping[str, float] | None = None,
    **statistics: float,
) -> StepDone:
    """Step `number`, two seconds after the one before unless told otherwise; `more` are further statistics."""
    return StepDone(
        seconds=2.0 * number if seconds is None else seconds,
        step=number,
        version=number,
        statistics={**statistics, **(more or {})},
        staleness={0: 100} if staleness is None else staleness,
        step_seconds=1.5,
    )


def evaluation(name: str, version: int, pass_at_1: float, seconds: float = 1.0, n: int = 256) -> EvaluationDone:
    """An evaluation with one sample a task."""
    return EvaluationDone(
        seconds=seconds,
        name=name,
        version=version,
        pass_at_1=pass_at_1,
        maj_at_k=min(1.0, pass_at_1 + 0.05),
        k=4,
        n=n,
        format=0.98,
        mean_length=29.0,
        version_min=version,
        version_max=version,
    )


def reward_model(accuracy: float, held_out: int = 64) -> RewardModelDone:
    """A reward model that puts this share of the held-out pairs in the right order."""
    return RewardModelDone(seconds=9, steps=120, pairs=500, held_out=held_out, accuracy=accuracy, margin=1.5, loss=0.4)


def tick(seconds: float, interval: float = 1.0, generation: float = 800.0, busy: float = 0.5, **groups: Any) -> Tick:
    """The pools at `seconds`."""
    return Tick(
        seconds=seconds,
        interval_seconds=interval,
        queues={"tasks": 12, "verification": 2, "ready": 5},
        busy={"generator": busy, "verifier": 0.1, "learner": 0.9},
        waits={"verifier": "groups to verify"},
        tokens_per_second={"generation": generation, "learning": 500.0},
        groups=GroupCounters(**groups),
    )


def sample(seconds: float = 3.0, response: str = HOSTILE, version: int = 1) -> RolloutSample:
    """A rollout whose response tries to break out of whatever shows it."""
    return RolloutSample(
        seconds=seconds,
        task_key="addition/</td>17",
        prompt="374+859=",
        response=response,
        reward=1.1,
        parts={"answer": 1.0, "format": 0.1},
        version_min=version - 1,
        version_max=version,
        truncated=False,
        verdict_status="ok",
    )


def learning_run(steps: int = 60, seed: int = 0) -> Iterator[Event]:
    """A run that learns: accuracy from 0.42 to 0.92, with an evaluation every ten steps and one restart."""
    draw = random.Random(seed)
    yield Phase(seconds=0.0, name="starting", detail="engines load")
    yield Phase(seconds=20.0, name="evaluation", detail="held-out tasks, before")
    yield evaluation("before", 0, 0.42, 24.0)
    yield Phase(seconds=24.0, name="training")
    counters = {"issued": 0, "in_flight": 16, "ready": 4, "delivered": 32, "trained": 0, "committed": 0}
    dropped = {"zero_variance": 0, "stale": 0, "infra_error": 0}
    seconds = 24.0
    for number in range(1, steps + 1):
        share = 1 - math.exp(-3 * number / steps)
        for _ in range(3):
            seconds += 1.0
            busy = draw.uniform(0.55, 0.9)
            total = sum(counters[key] for key in ("in_flight", "ready", "delivered", "trained", "committed"))
            counters["issued"] = total + sum(dropped.values())
            yield tick(seconds, 1.0, draw.gauss(850, 60), busy, **counters, dropped=dict(dropped))
        counters["trained"] += 32
        dropped["zero_variance"] += draw.randrange(4)
        dropped["stale"] += draw.randrange(20) == 0
        if number % 10 == 0:
            counters["committed"] += counters["trained"]
            counters["trained"] = 0
        old = [draw.randrange(200, 900) for _ in range(5)]
        yield step(
            number,
            seconds,
            {0: old[0], 1: 3 * old[1], 2: 4 * old[2], 3: old[3], 4: old[4] // 4},
            reward=0.5 + 0.5 * share + draw.gauss(0, 0.04),
            entropy=0.12 * (1 - 0.7 * share) + abs(draw.gauss(0, 0.006)),
            mixed_groups=0.85 - 0.5 * share + draw.gauss(0, 0.05),
            response_length_mean=29.3 + draw.gauss(0, 0.5),
            truncated_fraction=max(0.0, draw.gauss(0.01, 0.01)),
            logprob_difference_mean=abs(draw.gauss(4e-5, 1e-5)),
            logprob_difference_tokens=400.0,
            loss=draw.gauss(0, 0.01),
            gradient_norm=abs(draw.gauss(0.6, 0.2)),
            ratio_mean=draw.gauss(1, 0.01),
            clip_fraction_high=abs(draw.gauss(0.02, 0.01)),
            format_rate=0.9 + 0.1 * share,
            thinking_tokens=20.0 + 2 * share,
            answer_tokens=9.0,
            more={"difficulty/never": 0.4 * (1 - share), "difficulty/always": 0.6 + 0.4 * share},
        )
        pause = abs(draw.gauss(0.05, 0.02))
        yield WeightSync(
            seconds=seconds,
            version=number,
            members=2,
            bytes=3_600_000,
            transfer_seconds=pause * 0.9,
            pause_seconds=pause,
            total_seconds=pause * 1.4,
        )
        if number % 10 == 0 and number < steps:
            yield evaluation(f"step {number}", number, 0.42 + 0.5 * share, seconds)
        if number % 12 == 1:
            yield sample(seconds, "<think>4+9=13,7+5+1=13,3+8+1=12</think><answer>1233</answer>", number)
        if number == 33:
            yield sample(seconds, HOSTILE, number)
            yield Restart(seconds=seconds, role="verifier", member="verifier-1", reason="no heartbeat for 10 s")
    yield Phase(seconds=seconds, name="evaluation", detail="held-out tasks, after")
    yield evaluation("after", steps, 0.92, seconds + 4)
    yield Phase(seconds=seconds + 5, name="finished")
