"""`python -m benchmarks learner`: our training step beside TRL's, on the same completions, dtype and threads.

`run()` measures tokens/s and peak memory of both on a tiny Llama and on SmolLM2-135M, where our time goes, how cost
grows with the batch, and what shared prompts save. `run(parity=True)` compares the losses of the objectives both have.
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
import numpy.typing as npt
import torch

from benchmarks import learner_sharing as sharing
from benchmarks import models
from benchmarks.terminal import say
from learner import Completion, Group, LearnerConfig, Trainer
from learner.batch import save_groups
from learner.model.packing import Segment, pack

ROOT = Path(__file__).resolve().parent.parent
PEER = ROOT / "benchmarks" / "peers"
STEP_TIMEOUT_SECONDS = 1800.0
PARITY_TOLERANCE = 1e-5
MAX_LENGTH = 512
LOGIT_CHUNK_TOKENS = 256
CHECKPOINTING = ", checkpointing"

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
    "SAPO": ({"name": "sapo"}, {"loss_type": "sapo"}),
    "GDPO": (
        {"name": "gdpo", "part_weights": {"accuracy": 1.0, "format": 0.5}},
        {
            "loss_type": "grpo",
            "epsilon": 0.2,
            "multi_objective_aggregation": "normalize_then_sum",
            "reward_weights": [1.0, 0.5],
        },
    ),
}


@dataclass(frozen=True)
class Setting:
    """How many sequences TRL runs at once, and whether it recomputes activations."""

    sequences: int
    checkpointing: bool

    def __str__(self) -> str:
        return f"TRL, {self.sequences} at once" + CHECKPOINTING * self.checkpointing


DEFAULTS = Setting(8, checkpointing=True)


@dataclass(frozen=True)
class Workload:
    """A model and a batch: groups of 8, prompts of 16-64 tokens, completions log-normal in 16-512 tokens."""

    name: str
    model: Path
    dtype: str
    groups: int
    median_length: float
    micro_batch_tokens: int
    settings: tuple[Setting, ...]
    steps: int


def make_groups(model: Path, count: int, median_length: float, seed: int) -> list[Group]:
    """Random completions with the model's own logprobs, slightly off policy; every group has mixed rewards."""
    random, formats = np.random.default_rng(seed), np.random.default_rng(seed + 1)
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
            Completion(t, x.astype(np.float32), np.zeros(len(t), np.int32), float(r), False, parts)
            for t, x, r, parts in zip(tokens, noisy, rewards, _parts(rewards, formats), strict=True)
        )
        groups.append(Group(prompt, tuple(completions), identifier))
    return groups


def _parts(rewards: npt.NDArray[np.float64], random: np.random.Generator) -> list[dict[str, float]]:
    """The reward, and beside it a part that it does not count."""
    return [{"accuracy": float(r), "format": float(random.integers(0, 2))} for r in rewards]


def _run(command: list[str], spec: dict[str, Any], scratch: Path, threads: int) -> list[dict[str, Any]]:
    """Run a step script in its own process; returns what it wrote, one result a case."""
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


def ours(spec: dict[str, Any], scratch: Path, threads: int) -> list[dict[str, Any]]:
    return _run([sys.executable, "-m", "benchmarks.learner_step"], spec, scratch, threads)


def trl(spec: dict[str, Any], scratch: Path, threads: int) -> list[dict[str, Any]]:
    """TRL in its own environment, which is made on first use (a few minutes)."""
    subprocess.run([str(PEER / "install.sh")], check=True, timeout=STEP_TIMEOUT_SECONDS)
    return _run([str(PEER / ".venv/bin/python"), str(PEER / "trl_step.py")], spec, scratch, threads)


def _trl_arguments(sequences: int, **arguments: Any) -> dict[str, Any]:
    return {
        "per_device_train_batch_size": sequences,
        "beta": 0.0,
        "max_completion_length": MAX_LENGTH,
        "loss_type": "grpo",
        **arguments,
    }


def parity_table(scratch: Path) -> list[dict[str, Any]]:
    """The same fixed batch through TRL and through us: the loss of the first step."""
    model, batch = models.tiny(), scratch / "batch.npz"
    save_groups(make_groups(model, count=8, median_length=48, seed=1), batch)
    case = {"batch": str(batch), "steps": 1}
    mine = [{**case, "config": {"dtype": "float32", "objective": objective}} for objective, _ in PARITY.values()]
    theirs = [
        {
            **case,
            "old_logprobs": True,
            "parts": list(objective.get("part_weights", ())),
            "arguments": _trl_arguments(64, bf16=False, **arguments),
        }
        for objective, arguments in PARITY.values()
    ]
    pairs = zip(
        PARITY,
        ours({"model": str(model), "cases": mine}, scratch, threads=1),
        trl({"model": str(model), "cases": theirs}, scratch, threads=1),
        strict=True,
    )
    rows = []
    for name, our_result, their_result in pairs:
        a, b = our_result["losses"][0], their_result["losses"][0]
        equal = abs(a - b) <= PARITY_TOLERANCE
        rows.append({"objective": name, "ours": a, "trl": b, "difference": a - b, "equal": equal})
        verdict = "equal" if equal else "DIFFERENT"
        say(f"{name:10} ours {a:+.8f}  TRL {b:+.8f}  difference {a - b:+.1e}  {verdict}")
    return rows


def _summary(result: dict[str, Any], tokens: int, warm_up: int = 1) -> dict[str, Any]:
    # The first step allocates and warms caches up, for both.
    seconds, cpu = (statistics.median(result[key][warm_up:]) for key in ("seconds", "cpu_seconds"))
    return {
        "tokens_per_second": tokens / seconds,
        "tokens_per_cpu_second": tokens / cpu,
        "seconds": result["seconds"],
        "peak_bytes": result["peak_bytes"],
        "step_bytes": result["peak_bytes"] - result["base_bytes"],
    }


def speed(workload: Workload, scratch: Path, threads: int) -> dict[str, Any]:
    """Tokens/s and peak memory of both on one workload, with and without recomputed activations."""
    batch = scratch / "batch.npz"
    groups = make_groups(workload.model, workload.groups, workload.median_length, seed=2)
    tokens = _completion_tokens(groups)
    save_groups(groups, batch)
    case = {"batch": str(batch), "steps": workload.steps}
    print()
    say(f"{workload.name}: {workload.groups} x 8 completions, {tokens} tokens, {workload.dtype}, {threads} thread(s)")
    out: dict[str, Any] = {"workload": workload.name, "dtype": workload.dtype, "tokens": tokens, "threads": threads}
    ours_rows: dict[str, Any] = {}
    for checkpointing in (False, True):
        config = _our_config(workload) | {"gradient_checkpointing": checkpointing}
        spec = {"model": str(workload.model), "cases": [{**case, "config": config, "profile": not checkpointing}]}
        (mine,) = ours(spec, scratch, threads)
        name = f"ours, {workload.micro_batch_tokens} tokens at once" + CHECKPOINTING * checkpointing
        row = ours_rows[name] = _summary(mine, tokens)
        _print_row(name, row)
        out |= {key: mine[key] for key in ("profile", "parameters") if key in mine}
    peers: dict[str, Any] = {}
    for setting in workload.settings:
        arguments = _trl_arguments(
            setting.sequences, bf16=workload.dtype == "bfloat16", gradient_checkpointing=setting.checkpointing
        )
        spec = {"model": str(workload.model), "cases": [{**case, "old_logprobs": True, "arguments": arguments}]}
        (theirs,) = trl(spec, scratch, threads)
        row = peers[str(setting)] = _summary(theirs, tokens)
        _print_row(str(setting), row)
    say(f"weights, gradients and Adam's moments in float32: {16 * out['parameters'] / 2**20:.0f} MiB of each", 2)
    ratios = [_ratios(own, ours_rows[own], *peer, peers) for own in ours_rows for peer in _rivals(peers).items()]
    say("our time: " + ", ".join(f"{part} {share:.0%}" for part, share in out["profile"].items() if share > 0.005), 2)
    return out | {"ours": ours_rows, "trl": peers, "ratios": ratios}


def _rivals(peers: dict[str, Any]) -> dict[str, str]:
    """The settings of TRL that ours is compared with, and for what."""
    return {
        str(DEFAULTS): "defaults",
        max(peers, key=lambda n: float(peers[n]["tokens_per_cpu_second"])): "fastest",
        min(peers, key=lambda n: float(peers[n]["peak_bytes"])): "smallest",
    }


def _ratios(own: str, row: dict[str, Any], name: str, kind: str, peers: dict[str, Any]) -> dict[str, Any]:
    peer = peers[name]
    # Other load on the machine stretches wall time, and stretches it differently from minute to minute.
    ratios = {
        "ours": own,
        "trl": name,
        "kind": kind,
        "speedup": row["tokens_per_second"] / peer["tokens_per_second"],
        "cpu_speedup": row["tokens_per_cpu_second"] / peer["tokens_per_cpu_second"],
        "memory_ratio": row["peak_bytes"] / peer["peak_bytes"],
        "step_memory_ratio": row["step_bytes"] / peer["step_bytes"],
    }
    say(
        f"{own.removeprefix('ours, ')} against its {kind} ({name.removeprefix('TRL, ')}): "
        f"{ratios['speedup']:.2f} x the tokens/s ({ratios['cpu_speedup']:.2f} x a CPU second), "
        f"{ratios['memory_ratio']:.2f} x the peak memory ({ratios['step_memory_ratio']:.2f} x what steps add)",
        indent=2,
    )
    return ratios


def _print_row(name: str, row: dict[str, Any]) -> None:
    say(name, indent=2)
    speed_text = f"{row['tokens_per_second']:6.0f} tokens/s {row['tokens_per_cpu_second']:6.0f} a CPU second"
    memory = f"peak {row['peak_bytes'] / 2**20:5.0f} MiB, steps add {row['step_bytes'] / 2**20:5.0f} MiB"
    say(f"{speed_text}  {memory}", indent=4)


def _our_config(workload: Workload) -> dict[str, Any]:
    return {
        "dtype": workload.dtype,
        "micro_batch_tokens": workload.micro_batch_tokens,
        "logit_chunk_tokens": LOGIT_CHUNK_TOKENS,
    }


def _completion_tokens(groups: list[Group]) -> int:
    return sum(len(c.tokens) for g in groups for c in g.completions)


def growth(workload: Workload, scratch: Path, threads: int) -> list[dict[str, Any]]:
    """Cost of 1, 2, 4 and 8 times the tokens with the same token budget, in one process, smallest batch first."""
    factors = (1, 2, 4, 8)
    groups = make_groups(workload.model, workload.groups * factors[-1], workload.median_length, seed=3)
    batches = [groups[: workload.groups * factor] for factor in factors]
    files = [scratch / f"batch{factor}.npz" for factor in factors]
    for batch, file in zip(batches, files, strict=True):
        save_groups(batch, file)
    # The smallest batch once more in front, to warm up.
    cases = [
        {"batch": str(file), "steps": workload.steps, "config": _our_config(workload)} for file in (files[0], *files)
    ]
    _, *results = ours({"model": str(workload.model), "cases": cases, "keep": True}, scratch, threads)
    tokens = [_completion_tokens(batch) for batch in batches]
    print()
    say(
        f"{workload.name}, {workload.dtype}: cost of a larger batch, {workload.micro_batch_tokens} tokens at once; "
        "peak memory since the start"
    )
    rows = []
    for factor, count, result in zip(factors, tokens, results, strict=True):
        row = {"factor": factor, "tokens": count, **_summary(result, count, warm_up=0)}
        rows.append(row)
        _print_row(f"{factor} x: {count} tokens", row)
    last, first = rows[-1], rows[0]
    say(
        f"{last['tokens'] / first['tokens']:.1f} x the tokens cost "
        f"{last['tokens'] / last['tokens_per_cpu_second'] / (first['tokens'] / first['tokens_per_cpu_second']):.1f} x "
        f"the CPU time and {last['peak_bytes'] / first['peak_bytes']:.2f} x the memory",
        indent=2,
    )
    return rows


def workloads() -> list[Workload]:
    """What is compared; TRL gets its defaults, and settings that its users choose between."""
    tiny = (DEFAULTS, Setting(32, False), Setting(128, False))
    smollm2 = (DEFAULTS, Setting(4, True), Setting(4, False))
    return [
        Workload("tiny Llama, 0.9 M parameters", models.tiny(), "float32", 16, 96, 2048, tiny, 4),
        # Two steps, of which one is timed: TRL takes more than a minute for each on one core.
        Workload("SmolLM2-135M", models.smollm2(), "bfloat16", 2, 64, 512, smollm2, 2),
    ]


def growing() -> list[Workload]:
    """The batches that grow by 2, 4 and 8; the smallest fills the token budget."""
    return [
        Workload("tiny Llama, 0.9 M parameters", models.tiny(), "float32", 8, 48, 2048, (), 3),
        Workload("SmolLM2-135M", models.smollm2(), "bfloat16", 2, 48, 512, (), 1),
    ]


def run(json: Path | None = None, parity: bool = False) -> dict[str, Any]:
    """Print the figures and return them; `json` also writes them to a file."""
    result: dict[str, Any] = {"machine": platform.processor() or platform.machine(), "cpus": os.cpu_count()}
    threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    with tempfile.TemporaryDirectory(prefix="leeway-bench-") as folder:
        scratch = Path(folder)
        if parity:
            result["parity"] = parity_table(scratch)
        else:
            result["sharing"] = sharing.run(models.tiny(), threads)
            result["speed"] = [speed(w, scratch, threads) for w in workloads()]
            result["growth"] = [growth(w, scratch, threads) for w in growing()]
    if json is not None:
        json.write_text(jsonlib.dumps(result, indent=2))
    return result
