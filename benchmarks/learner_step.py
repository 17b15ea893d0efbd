"""Our training step on fixed completions, in a process of its own: the counterpart of `peers/trl_step.py`.

usage: python -m benchmarks.learner_step SPEC.json OUT.json

SPEC: model, threads, cases: [{batch, steps, config (of `LearnerConfig`), profile (also say where time goes)}], and
keep (all cases with one trainer, that of the first). OUT: one result a case, as the peer's.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import torch

from learner import Group, LearnerConfig, Trainer
from learner.batch import load_groups

# What an operator belongs to, by the name of the innermost operator around it that stands here. Backward passes carry
# the names of autograd's nodes.
PARTS = (
    ("_ChunkedLogprobs", "vocabulary head"),
    ("_RmsNorm", "norm, rotary"),
    ("_Rotary", "norm, rotary"),
    ("_ToRows", "attention"),
    ("_FromRows", "attention"),
    ("aten::scaled_dot_product", "attention"),
    ("ScaledDotProduct", "attention"),
    ("aten::cat", "attention"),
    ("CatBackward", "attention"),
    ("SplitWithSizes", "attention"),
    ("_GatedDown", "linear layers, gated unit"),
    ("aten::linear", "linear layers, gated unit"),
    ("_Linear", "linear layers, gated unit"),
    ("aten::embedding", "embedding"),
    ("EmbeddingBackward", "embedding"),
    ("Optimizer.step", "optimizer"),
    ("aten::_foreach", "optimizer"),
    ("aten::linalg_vector_norm", "optimizer"),
    ("AccumulateGrad", "adding gradients up"),
    ("torch::autograd::AccumulateGrad", "adding gradients up"),
    ("autograd::engine::evaluate_function: torch::autograd::AccumulateGrad", "adding gradients up"),
    ("ToCopyBackward", "casts"),
    ("aten::to", "casts"),
)


def peak_bytes() -> int:
    """Largest resident size of this process. `ru_maxrss` would start at that of the process which started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def part_of(event: Any) -> str:
    """The part of a step that a profiler event belongs to."""
    while event is not None:
        name = event.name.removeprefix("autograd::engine::evaluate_function: ")
        for prefix, part in PARTS:
            if name.startswith(prefix):
                return part
        event = event.cpu_parent
    return "other tensor operations"


def where_time_goes(trainer: Trainer, groups: list[Group]) -> dict[str, float]:
    """Share of one step's time by part of the step; what no operator accounts for is Python's."""
    with torch.profiler.profile() as profile:
        whole = trainer.train_step(groups)["seconds"]
    shares: dict[str, float] = {}
    for event in profile.events():
        part = part_of(event)
        shares[part] = shares.get(part, 0.0) + event.self_cpu_time_total / 1e6 / whole
    shares["Python: packing, autograd, statistics"] = max(1.0 - sum(shares.values()), 0.0)
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def measure(trainer: Trainer, case: dict[str, Any]) -> dict[str, Any]:
    groups = load_groups(Path(case["batch"]))
    base = psutil.Process(os.getpid()).memory_info().rss
    statistics, cpu = [], []
    for _ in range(case["steps"]):
        start = time.process_time()
        statistics.append(trainer.train_step(groups))
        cpu.append(time.process_time() - start)
        line = f"step: {statistics[-1]['seconds']:.2f} s, {cpu[-1]:.2f} CPU s, peak {peak_bytes() >> 20} MiB"
        print(line, file=sys.stderr, flush=True)
    result: dict[str, Any] = {
        "losses": [s["loss"] for s in statistics],
        "seconds": [s["seconds"] for s in statistics],
        "cpu_seconds": cpu,
        "peak_bytes": peak_bytes(),
        "base_bytes": base,
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
    }
    if case.get("profile"):
        result["profile"] = where_time_goes(trainer, groups)
    return result


def main() -> None:
    spec = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(spec["threads"])
    trainer: Trainer | None = None
    results = []
    for case in spec["cases"]:
        if trainer is None or not spec.get("keep"):
            trainer = Trainer(LearnerConfig(**case["config"]), spec["model"], seed=0)
        results.append(measure(trainer, case))
    Path(sys.argv[2]).write_text(json.dumps(results))


if __name__ == "__main__":
    main()
