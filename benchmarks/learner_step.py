"""Our training step on fixed completions, in a process of its own: the counterpart of `peers/trl_step.py`.

usage: python -m benchmarks.learner_step SPEC.json OUT.json

SPEC: model, batch, steps, threads as for the peer; config (of `LearnerConfig`); profile (also say where time goes).
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import torch

from learner import LearnerConfig, Trainer
from learner.batch import load_groups

# Operator name (prefix) -> what it is part of; the first match counts, everything else is "other".
PARTS = (
    ("aten::mm", "matrix products"),
    ("aten::addmm", "matrix products"),
    ("aten::bmm", "matrix products"),
    ("aten::_scaled_dot", "attention"),
    ("aten::index", "gather and scatter"),
    ("aten::gather", "gather and scatter"),
    ("aten::scatter", "gather and scatter"),
    ("aten::embedding", "gather and scatter"),
    ("aten::_fused_adamw", "optimizer"),
    ("aten::_foreach", "optimizer"),
    ("aten::linalg_vector_norm", "norms and softmax"),
    ("aten::logsumexp", "norms and softmax"),
    ("aten::exp", "norms and softmax"),
    ("aten::copy_", "copies and zeros"),
    ("aten::fill_", "copies and zeros"),
    ("aten::zero_", "copies and zeros"),
    ("aten::cat", "copies and zeros"),
    ("aten::", "elementwise"),
)


def where_time_goes(trainer: Trainer, groups: list[Any]) -> dict[str, float]:
    """Share of one step's time by kind of operator."""
    with torch.profiler.profile() as profile:
        trainer.train_step(groups)
    events = profile.key_averages()
    total = sum(e.self_cpu_time_total for e in events)
    shares: dict[str, float] = {}
    for event in events:
        part = next((part for prefix, part in PARTS if event.key.startswith(prefix)), "other (Python, autograd)")
        shares[part] = shares.get(part, 0.0) + event.self_cpu_time_total / total
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def main() -> None:
    spec = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(spec["threads"])
    groups = load_groups(Path(spec["batch"]))
    trainer = Trainer(LearnerConfig(**spec["config"]), spec["model"], seed=0)
    base = psutil.Process(os.getpid()).memory_info().rss
    statistics, cpu = [], []
    for _ in range(spec["steps"]):
        start = time.process_time()
        statistics.append(trainer.train_step(groups))
        cpu.append(time.process_time() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    result: dict[str, Any] = {
        "losses": [s["loss"] for s in statistics],
        "seconds": [s["seconds"] for s in statistics],
        "cpu_seconds": cpu,
        "trained_tokens": statistics[-1]["trained_tokens"],
        "peak_bytes": peak,
        "base_bytes": base,
    }
    if spec.get("profile"):
        result["profile"] = where_time_goes(trainer, groups)
    Path(sys.argv[2]).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
