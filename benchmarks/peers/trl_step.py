"""TRL's own GRPO training loop on fixed completions. Runs in the peer's environment; knows nothing of Leeway.

usage: trl_step.py SPEC.json OUT.json

SPEC: model (folder), threads, cases: [{batch (.npz of plain arrays), arguments (of `GRPOConfig`), steps, old_logprobs
(use the file's logprobs as those of the old policy), parts (the rewards are these of the file's parts; none: its
rewards)}]. OUT: one result a case: losses, seconds, cpu_seconds (a step,
without the rollout), peak_bytes (largest resident size of the process so far), base_bytes (resident size before the
first step).
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from datasets import Dataset
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer


def clocks() -> Any:
    """Wall and CPU seconds."""
    return np.array([time.perf_counter(), time.process_time()])


def peak_bytes() -> int:
    """Largest resident size of this process. `ru_maxrss` would start at that of the process which started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


class FixedBatch:
    """The completions of a batch file, in order."""

    def __init__(self, file: str) -> None:
        data = np.load(file, allow_pickle=False)
        sizes = data["group_sizes"]
        if len(set(sizes.tolist())) != 1:
            raise SystemExit("TRL needs groups of equal size")
        self.size = int(sizes[0])
        prompts = np.split(data["prompts"], np.cumsum(data["prompt_lengths"])[:-1])
        ends = np.cumsum(data["lengths"])[:-1]
        self.prompts = [p.tolist() for p in prompts for _ in range(self.size)]
        self.completions = [c.tolist() for c in np.split(data["tokens"], ends)]
        self.logprobs = [x.tolist() for x in np.split(data["logprobs"], ends)]
        self.rewards = data["rewards"].tolist()
        self.parts = dict(zip(data["part_names"].tolist(), data["parts"].T.tolist(), strict=True))

    def rollout(self, prompts: list[str], trainer: Any) -> dict[str, Any]:
        del trainer
        assert [int(p) for p in prompts] == [i // self.size for i in range(len(self.completions))]
        return {
            "prompt_ids": self.prompts,
            "completion_ids": self.completions,
            "logprobs": None,
            "fixed_reward": self.rewards,
        }

    def reward_functions(self, parts: list[str]) -> list[Callable[..., list[float]]]:
        return [lambda name=name, **_: self.parts[name] for name in parts] or [reward]


def reward(completions: list[Any], fixed_reward: list[float], **_: Any) -> list[float]:
    del completions
    return fixed_reward


class Peer(GRPOTrainer):
    """TRL's trainer; only the source of old logprobs is added, and clocks."""

    fixed: FixedBatch
    old_logprobs: bool
    rollout = np.zeros(2)  # wall and CPU seconds
    loss_of_step = 0.0

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        start = clocks()
        output = super()._generate_and_score_completions(inputs)
        if self.old_logprobs:
            padded = torch.zeros(output["completion_ids"].shape)
            for row, values in enumerate(self.fixed.logprobs):
                padded[row, : len(values)] = torch.tensor(values)
            output["old_per_token_logps"] = padded
        Peer.rollout = Peer.rollout + clocks() - start
        return output

    def _compute_loss(self, model: Any, inputs: Any) -> Any:
        loss = super()._compute_loss(model, inputs)
        Peer.loss_of_step += float(loss.detach())
        return loss


class Clock(TrainerCallback):
    def __init__(self) -> None:
        self.seconds: list[list[float]] = []
        self.losses: list[float] = []
        self.last = clocks()

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.last = clocks()
        # The rollout happens inside the first micro-batch's training step; on_step_end takes it off again.
        Peer.rollout = np.zeros(2)

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds.append((clocks() - self.last - Peer.rollout).tolist())
        self.losses.append(Peer.loss_of_step)
        wall, cpu = self.seconds[-1]
        print(f"step: {wall:.2f} s, {cpu:.2f} CPU s, peak {peak_bytes() >> 20} MiB", file=sys.stderr, flush=True)
        Peer.loss_of_step = 0.0


def measure(model: str, case: dict[str, Any], scratch: str) -> dict[str, Any]:
    fixed = FixedBatch(case["batch"])
    total = len(fixed.completions)
    arguments = dict(case["arguments"])
    micro = arguments.pop("per_device_train_batch_size")
    config = GRPOConfig(
        output_dir=scratch,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=total // micro,
        num_generations=fixed.size,
        max_steps=case["steps"],
        # Weights and optimizer in float32, as ours; bf16=True computes under autocast.
        model_init_kwargs={"dtype": "float32"},
        use_cpu=True,
        use_vllm=False,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        shuffle_dataset=False,
        disable_tqdm=True,
        seed=0,
        **arguments,
    )
    Peer.fixed, Peer.old_logprobs = fixed, case["old_logprobs"]
    clock = Clock()
    rows = [{"prompt": str(i)} for i in range(total // fixed.size)] * (case["steps"] + 1)
    trainer = Peer(
        model=model,
        reward_funcs=fixed.reward_functions(case.get("parts", [])),
        args=config,
        train_dataset=Dataset.from_list(rows),
        rollout_func=fixed.rollout,
        callbacks=[clock],
    )
    base = psutil.Process(os.getpid()).memory_info().rss
    trainer.train()
    return {
        "losses": clock.losses,
        "seconds": [w for w, _ in clock.seconds],
        "cpu_seconds": [c for _, c in clock.seconds],
        "peak_bytes": peak_bytes(),
        "base_bytes": base,
    }


def main() -> None:
    spec = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(spec["threads"])
    with tempfile.TemporaryDirectory() as scratch:
        results = [measure(spec["model"], case, scratch) for case in spec["cases"]]
    Path(sys.argv[2]).write_text(json.dumps(results))


if __name__ == "__main__":
    main()
