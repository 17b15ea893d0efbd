"""`python -m tests.stages`: a pipeline of every kind of stage, in each of which a process is killed, comes to the same
table and to the same weights, bit by bit, as one that nobody touched.

Minutes, so no part of `make test`, which kills the driver in one stage (`tests/e2e/test_pipeline.py`). No generation
overlaps with training (`max_staleness: 0`), and each completion has a seed: what remains is the order of events.
"""

import argparse
import hashlib
import json
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.e2e.conftest import Run, events_of, starting
from tests.e2e.test_pipeline import COMMON, table
from tests.e2e.test_run import nothing_left

#: Longest time of a pipeline from one fault to the next, and of one without (s).
SECONDS = 1200.0
#: Phases in which a stage does what it is for.
AT_WORK = ("cold start", "reward model", "training", "evaluation")
#: A stage is hit up to so long after its work has begun (s).
LATEST = 1.5
ROLES = ("Controller", "ReplayRole", "Generator", "Verifier", "Learner", "Scorer")
STEPS = 4


def pipeline(place: Path, name: str) -> Path:
    """Write the recipe of a pipeline, with the data that it reads."""
    sums = [(a, b) for a in range(10, 40) for b in range(10, 40)]
    rows = {
        "traces": [{"prompt": f"{a}+{b}=", "response": f"<think>{a}</think><answer>{a + b}</answer>"} for a, b in sums],
        "pairs": [{"prompt": f"{a}+{b}=", "chosen": f"{a + b}", "rejected": f"{a + b}!"} for a, b in sums[:200]],
    }
    for file, lines in rows.items():
        (place / f"{file}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    common = COMMON | {
        "model": COMMON["model"] | {"layers": 2, "intermediate_size": 128},
        "tasks": COMMON["tasks"] | {"held_out": 16, "development": 8},
        "rewards": {"format": "r1_zero", "weights": {"format": 0.5}},
        "replay": COMMON["replay"] | {"groups_per_batch": 4},
        "scorers": {"batch_tokens": 1},  # what shares a pass with a completion changes the last bits of its score
        "membership": {"timeout_seconds": 10},
        "cold_start": {"traces": str(place / "traces.jsonl"), "supervised": {"max_steps": 60, "check_every": 10}},
    }
    preferences = {"pairs": str(place / "pairs.jsonl"), "held_out": 16, "supervised": {"epochs": 1}}
    again = {"supervised": {"max_steps": 20, "check_every": 5}}
    stages = [
        {"name": "cold", "kind": "sft"},
        {"name": "reasoning", "kind": "rl", "model": "cold", "recipe": {"steps": STEPS}},
        {
            "name": "samples",
            "kind": "sample",
            "model": "cold",
            "recipe": {"sample": {"tasks": 256, "samples": 4, "min_accuracy": 0.0}},
        },
        {"name": "sft", "kind": "sft", "data": ["samples"], "recipe": {"cold_start": again}},
        {"name": "judge", "kind": "reward_model", "model": "sft", "recipe": {"preferences": preferences}},
        {"name": "final", "kind": "rl", "model": "sft", "reward_model": "judge", "recipe": {"steps": STEPS}},
        {"name": "distilled", "kind": "distill", "data": ["samples"], "recipe": {"cold_start": again}},
        {"name": "test", "kind": "evaluate", "model": "final"},
    ]
    path = place / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"name": name, "output": str(place), "common": common, "stages": stages}))
    return path


def outcome(folder: Path) -> dict[str, Any]:
    """What the stages have come to, without what it took, and a hash of each stage's weights and samples."""
    files = sorted([*folder.glob("*/model/*.safetensors"), *folder.glob("*/curated.jsonl")])
    hashes = {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}
    return {"table": table(folder), "files": hashes}


def at_work(stage: Path) -> bool:
    """Whether a stage does what it is for by now."""
    with suppress(OSError):
        return any(e["kind"] == "phase" and e["name"] in AT_WORK for e in events_of(stage / "metrics.jsonl"))
    return False


def strike(run: Run, choice: random.Random) -> str:
    """Kill the driver, or one of the roles that there are; returns which."""
    processes = run.processes()
    victims: dict[str, psutil.Process | None] = {"driver": None}
    for process in processes:
        with suppress(psutil.Error):
            victims |= {role: process for role in ROLES if f"ray::{role}" in " ".join(process.cmdline())}
    role = choice.choice(sorted(victims))
    if (victim := victims[role]) is not None:
        victim.kill()
        return role
    run.kill(signal.SIGKILL)
    assert nothing_left(processes), "processes outlive their driver"
    return role


def struck(start: Callable[..., Run], path: Path, choice: random.Random) -> Path:
    """Run a pipeline, and kill a process in each stage. Where that is the driver, the pipeline is resumed."""
    folder = path.parent / path.stem
    run = start([str(path)], SECONDS)
    for stage in yaml.safe_load(path.read_text())["stages"]:

        def working(name: str = stage["name"]) -> bool:
            return any(at_work(place) for place in folder.glob(f"*-{name}"))

        run.wait_for(f"the work of {stage['name']}", working)
        time.sleep(choice.uniform(0, LATEST))
        role = strike(run, choice)
        print(f"{stage['name']}: {role} killed", flush=True)
        if role == "driver":
            run.end()
            run = start(["--resume", str(folder)], SECONDS)
    assert run.end() == 0, run.text()[-3000:]
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    seeds = parser.parse_args().seeds
    place = Path(tempfile.mkdtemp(prefix="leeway-stages-"))
    with starting(place) as start:
        untouched = start([str(pipeline(place, "untouched"))], SECONDS)
        assert untouched.end() == 0, untouched.text()[-3000:]
        expected, same = outcome(place / "untouched"), True
        print(json.dumps(expected["table"], indent=1), flush=True)
        for seed in seeds:
            folder = struck(start, pipeline(place, f"struck-{seed}"), random.Random(seed))
            found = outcome(folder)
            differing = [name for name, hashed in expected["files"].items() if found["files"].get(name) != hashed]
            same = same and found == expected
            said = "the same" if found == expected else f"differs: {differing}, {json.dumps(found['table'])}"
            print(f"seed {seed}: {said}", flush=True)
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
