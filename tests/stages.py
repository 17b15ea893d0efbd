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
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import yaml

from actors.deadline import until
from tests.e2e.conftest import Run, starting

#: Longest time of a pipeline from one fault to the next, and of one without (s).
SECONDS = 1200.0
#: Phases in which a stage does what it is for.
AT_WORK = ("cold start", "reward model", "training", "evaluation")
#: A stage is hit up to so long after its work has begun (s).
LATEST = 4.0
ROLES = ("driver", "Controller", "ReplayRole", "Generator", "Verifier", "Learner")
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
    common = {
        "model": {"kind": "tiny", "hidden_size": 64, "heads": 2, "layers": 2, "intermediate_size": 128},
        "tasks": {
            "sources": [{"source": "addition", "digits": 2}],
            "template": "raw",
            "held_out": 16,
            "development": 8,
            "max_prompt_tokens": 16,
        },
        "rewards": {"format": "r1_zero", "weights": {"format": 0.5}},
        "generators": {"engine": "transformers", "dtype": "float32", "sampling": {"max_tokens": 24}},
        "replay": {"max_staleness": 0, "groups_per_batch": 4, "group_size": 4, "drop_zero_variance": False},
        "learner": {"dtype": "float32", "device": "cpu", "threads": 1},
        "membership": {"timeout_seconds": 10},
        "evaluation": {"samples": 2},
        "checkpoint_every_steps": 1,
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
            "recipe": {"sample": {"tasks": 64, "samples": 2, "min_accuracy": 0.0}},
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
    rows = json.loads((folder / "pipeline-summary.json").read_text())["stages"]
    table = [{k: v for k, v in row.items() if k not in ("minutes", "tokens")} for row in rows]
    files = sorted([*folder.glob("*/model/*.safetensors"), *folder.glob("*/curated.jsonl")])
    hashes = {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}
    return {"table": table, "files": hashes}


def at_work(stage: Path) -> bool:
    """Whether a stage does what it is for by now."""
    with suppress(OSError, ValueError):
        events = [json.loads(line) for line in (stage / "metrics.jsonl").read_text().splitlines()]
        return any(e["kind"] == "phase" and e["name"] in AT_WORK for e in events)
    return False


def strike(run: Run, role: str, say: Callable[[str], None]) -> None:
    """Kill the driver, or a process of a role where there is one."""
    processes = run.processes()
    if role == "driver":
        run.kill(signal.SIGKILL)
        assert until(lambda: not any(map(psutil.Process.is_running, processes)), 60), "processes outlive their driver"
        return
    for process in processes:
        with suppress(psutil.Error):
            if f"ray::{role}" in " ".join(process.cmdline()):
                process.kill()
                return
    say(f"  there is no {role} here")


def struck(start: Callable[..., Run], path: Path, roles: Iterator[str], choice: random.Random) -> Path:
    """Run a pipeline, and kill a process in each stage. What ends by that is resumed."""
    folder = path.parent / path.stem
    run = start([str(path)], SECONDS)
    for stage in yaml.safe_load(path.read_text())["stages"]:

        def working(name: str = stage["name"]) -> bool:
            return any(at_work(place) for place in folder.glob(f"*-{name}"))

        run.wait_for(f"the work of {stage['name']}", working)
        time.sleep(choice.uniform(0, LATEST))
        role = next(roles)
        print(f"{stage['name']}: {role}", flush=True)
        strike(run, role, print)
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
            choice = random.Random(seed)
            folder = struck(
                start, pipeline(place, f"struck-{seed}"), iter(lambda c=choice: c.choice(ROLES), None), choice
            )
            found = outcome(folder)
            differing = [name for name, hashed in expected["files"].items() if found["files"].get(name) != hashed]
            same = same and found == expected
            said = "the same" if found == expected else f"differs: {differing}, {json.dumps(found['table'])}"
            print(f"seed {seed}: {said}", flush=True)
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
