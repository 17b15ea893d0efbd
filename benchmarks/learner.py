"""`leeway bench learner`: our training step beside TRL's, on the same completions, dtype and threads.

`run()` measures tokens/s and peak memory of both on a tiny Llama and on SmolLM2-135M, where our time goes, and how cost
grows with the batch. `run(parity=True)` compares the losses of the objectives both have.
"""

from __future__ import annotations

import json as jsonlib
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import models
from learner import Completion, Group, LearnerConfig, Trainer
from learner.batch import save_groups
from learner.packing import Segment, pack

ROOT = Path(__file__).resolve().parent.parent
PEER = ROOT / "benchmarks" / "peers"
STEP_TIMEOUT_SECONDS = 1800.0
PARITY_TOLERANCE = 1e-5
MAX_LENGTH = 512
LOGIT_CHUNK_TOKENS = 256

# name -> (our objective, TRL's arguments for the same one)
PARITY: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "GRPO": ({"name": "grpo"}, {"loss_type": "grpo", "epsilon": 0.2}),
    "Dr. GRPO": (
        {"name": "dr_grpo", "constant_length": MAX_LENGTH},
        {"loss_type": "dr_grpo", "epsilon": 0.2, "scale_rewards": "none"},
    ),
    "DAPO": ({"name": "dapo"}, {"loss_type": "dapo", "epsilon": 0.2, "epsilon_high": 0.28}),
    "GSPO": (
        {"name": "gspo"},
        {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 3e-4, "epsilon_high": 4e-4},
    ),
    "CISPO": ({"name": "cispo"}, {"loss_type": "cispo", "epsilon_high": 5.0}),
}


@dataclass(frozen=True)
class Workload:
    """A model and a batch shape: groups of 8, prompts of 16-64 tokens, completions log-normal in 16-512 tokens."""

    name: str
    model: Path
    groups: int
    median_length: float
    micro_batch_tokens: int
    peer_micro_batches: tuple[int, ...]
    steps: int


def make_groups(model: Path, count: int, median_length: float, seed: int) -> list[Group]:
    """Random completions with the model's own logprobs, slightly off policy; every group has mixed rewards."""
    random = np.random.default_rng(seed)
    trainer = Trainer(LearnerConfig(dtype="float32", device="cpu"), model, seed=0)
    vocabulary = trainer.model.config.vocab_size
    groups = []
    for identifier in range(count):
        prompt = random.integers(0, vocabulary, int(random.integers(16, 65))).astype(np.int32)
        lengths = np.clip(random.lognormal(np.log(median_length), 0.8, 8).astype(int), 16, MAX_LENGTH)
        tokens = [random.integers(0, vocabulary, n).astype(np.int32) for n in lengths]
        with torch.no_grad():
            logp, _ = trainer.policy(pack([Segment(prompt, tuple(tokens), tuple(range(8)))]))
        noisy = [np.minimum(x.numpy() + 0.1 * random.normal(size=len(x)), 0.0) for x in logp.split(lengths.tolist())]
        rewards = random.permutation([1.0, 0.0, *random.integers(0, 2, 6)])
        completions = (
            Completion(t, x.astype(np.float32), np.zeros(len(t), np.int32), float(r), False)
            for t, x, r in zip(tokens, noisy, rewards, strict=True)
        )
        groups.append(Group(prompt, tuple(completions), identifier))
    return groups


def _run(command: list[str], spec: dict[str, Any], scratch: Path, threads: int) -> dict[str, Any]:
    """Run a step script in its own process; returns what it wrote."""
    spec_file, out_file = scratch / "spec.json", scratch / "out.json"
    spec_file.write_text(jsonlib.dumps({**spec, "threads": threads}))
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TRL_EXPERIMENTAL_SILENCE": "1"}
    finished = subprocess.run(
        [*command, str(spec_file), str(out_file)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=STEP_TIMEOUT_SECONDS,
        check=False,
    )
    if finished.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{finished.stderr[-3000:]}")
    return jsonlib.loads(out_file.read_text())  # type: ignore[no-any-return]


def ours(spec: dict[str, Any], scratch: Path, threads: int) -> dict[str, Any]:
    return _run([sys.executable, "-m", "benchmarks.learner_step"], spec, scratch, threads)


def trl(spec: dict[str, Any], scratch: Path, threads: int) -> dict[str, Any]:
    """TRL in its own environment, which is made on first use (a few minutes)."""
    subprocess.run([str(PEER / "install.sh")], check=True, timeout=STEP_TIMEOUT_SECONDS)
    return _run([str(PEER / ".venv/bin/python"), str(PEER / "trl_step.py")], spec, scratch, threads)


def parity_table(scratch: Path) -> list[dict[str, Any]]:
    """The same fixed batch through TRL and through us: the loss of the first step."""
    model = models.tiny(scratch / "tiny")
    save_groups(make_groups(model, count=8, median_length=48, seed=1), scratch / "batch.npz")
    rows = []
    for name, (objective, peer_arguments) in PARITY.items():
        shared = {"model": str(model), "batch": str(scratch / "batch.npz"), "steps": 1}
        mine = ours({**shared, "config": {"dtype": "float32", "objective": objective}}, scratch, threads=1)
        arguments = {
            "per_device_train_batch_size": 64,
            "beta": 0.0,
            "bf16": False,
            "max_completion_length": MAX_LENGTH,
            **peer_arguments,
        }
        theirs = trl({**shared, "old_logprobs": True, "arguments": arguments}, scratch, threads=1)
        a, b = mine["losses"][0], theirs["losses"][0]
        rows.append(
            {"objective": name, "ours": a, "trl": b, "difference": a - b, "equal": abs(a - b) <= PARITY_TOLERANCE}
        )
        print(f"{name:10} ours {a:+.8f}   TRL {b:+.8f}   difference {a - b:+.1e}", flush=True)
    return rows


def _summary(result: dict[str, Any], tokens: int) -> dict[str, Any]:
    # The first step allocates and warms caches up, for both.
    seconds, cpu = (statistics.median(result[key][1:]) for key in ("seconds", "cpu_seconds"))
    return {
        "tokens_per_second": tokens / seconds,
        "tokens_per_cpu_second": tokens / cpu,
        "seconds": result["seconds"],
        "peak_bytes": result["peak_bytes"],
        "step_bytes": result["peak_bytes"] - result["base_bytes"],
    }


def speed(workload: Workload, scratch: Path, threads: int) -> dict[str, Any]:
    """Tokens/s and peak memory of both on one workload."""
    groups = make_groups(workload.model, workload.groups, workload.median_length, seed=2)
    tokens = sum(len(c.tokens) for g in groups for c in g.completions)
    save_groups(groups, scratch / "batch.npz")
    shared = {"model": str(workload.model), "batch": str(scratch / "batch.npz"), "steps": workload.steps}
    config = {
        "dtype": "float32",
        "micro_batch_tokens": workload.micro_batch_tokens,
        "logit_chunk_tokens": LOGIT_CHUNK_TOKENS,
    }
    mine = ours({**shared, "config": config, "profile": True}, scratch, threads)
    out: dict[str, Any] = {"workload": workload.name, "tokens": tokens, "ours": _summary(mine, tokens), "trl": {}}
    out["profile"] = mine["profile"]
    print(f"\n{workload.name}: {len(groups)} x 8 completions, {tokens} tokens, float32, {threads} thread(s)")
    _print_row("ours", out["ours"])
    for micro in workload.peer_micro_batches:
        arguments = {
            "per_device_train_batch_size": micro,
            "beta": 0.0,
            "bf16": False,
            "max_completion_length": MAX_LENGTH,
            "loss_type": "grpo",
        }
        theirs = trl({**shared, "old_logprobs": True, "arguments": arguments}, scratch, threads)
        out["trl"][str(micro)] = _summary(theirs, tokens)
        _print_row(f"TRL, {micro} sequences at once", out["trl"][str(micro)])
    best = max(out["trl"].values(), key=lambda r: r["tokens_per_second"])
    out["speedup"] = out["ours"]["tokens_per_second"] / best["tokens_per_second"]
    # Other load on the machine stretches wall time, and stretches it differently from minute to minute.
    out["cpu_speedup"] = out["ours"]["tokens_per_cpu_second"] / best["tokens_per_cpu_second"]
    out["memory_ratio"] = out["ours"]["peak_bytes"] / best["peak_bytes"]
    out["step_memory_ratio"] = out["ours"]["step_bytes"] / best["step_bytes"]
    print(
        f"  {out['speedup']:.2f} x TRL's tokens/s ({out['cpu_speedup']:.2f} x a CPU second), "
        f"{out['memory_ratio']:.2f} x its peak memory ({out['step_memory_ratio']:.2f} x what steps add)"
    )
    print("  our time: " + ", ".join(f"{part} {share:.0%}" for part, share in mine["profile"].items()))
    return out


def _print_row(name: str, row: dict[str, Any]) -> None:
    speed_text = f"{row['tokens_per_second']:7.0f} tokens/s {row['tokens_per_cpu_second']:7.0f} a CPU second"
    memory = f"peak {row['peak_bytes'] / 2**20:6.0f} MiB, steps add {row['step_bytes'] / 2**20:6.0f} MiB"
    print(f"  {name:26} {speed_text}   {memory}", flush=True)


def growth(model: Path, scratch: Path, threads: int) -> list[dict[str, Any]]:
    """Cost of 1, 2, 4 and 8 times the tokens with the same token budget."""
    rows = []
    print("\ncost of a larger batch, same token budget (tiny model)")
    for factor in (1, 2, 4, 8):
        groups = make_groups(model, 4 * factor, median_length=48, seed=3)
        tokens = sum(len(c.tokens) for g in groups for c in g.completions)
        save_groups(groups, scratch / "batch.npz")
        config = {"dtype": "float32", "micro_batch_tokens": 2048}
        shared = {"model": str(model), "batch": str(scratch / "batch.npz"), "steps": 4, "config": config}
        row = {"factor": factor, "tokens": tokens, **_summary(ours(shared, scratch, threads), tokens)}
        rows.append(row)
        _print_row(f"{factor} x ({tokens} tokens)", row)
    return rows


def run(json: Path | None = None, parity: bool = False) -> dict[str, Any]:
    """Print the figures and return them; `json` also writes them to a file."""
    result: dict[str, Any] = {"machine": platform.processor() or platform.machine(), "cpus": os.cpu_count()}
    threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    with tempfile.TemporaryDirectory(prefix="leeway-bench-") as folder:
        scratch = Path(folder)
        if parity:
            result["parity"] = parity_table(scratch)
        else:
            tiny = models.tiny(scratch / "tiny")
            workloads = [
                Workload("tiny Llama, 0.9 M parameters", tiny, 16, 96, 2048, (8, 32), 4),
                Workload("SmolLM2-135M", models.smollm2(), 2, 96, 1024, (8,), 3),
            ]
            result["speed"] = [speed(w, scratch, threads) for w in workloads]
            result["growth"] = growth(tiny, scratch, threads)
    if json is not None:
        json.write_text(jsonlib.dumps(result, indent=2))
    return result
