"""`python -m benchmarks memory`: peak memory of small learners, beside the table of `leeway check`.

Each runs in a process of its own: its VmHWM after its steps, less what it had resident once everything was imported.
One writes a checkpoint all through a step: what that adds to the same case without is the row `checkpoint`.
With `--longest` the cases are one model and one sequence, of 1,024 tokens and twice as many up to that.
"""

import json as jsonlib
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from actors.planning.architectures import of_config
from actors.planning.memory import MicroBatch, checkpoint_beside, learner_rank
from actors.planning.public import SMOLLM2, sizes
from benchmarks.terminal import console
from learner.config import LearnerConfig

#: How far the table may be off.
TARGET = 0.1
PROMPT, COMPLETION, GROUP_SIZE, GROUPS = 32, 96, 4, 4
#: A prompt is computed once for its completions.
GROUP_TOKENS = PROMPT + GROUP_SIZE * COMPLETION
#: Shortest of the long sequences, which a micro-batch just holds; twice as long ones are longer than it (tokens).
SHORTEST = 1024
#: A step on 16,384 tokens takes half an hour on a busy core (s).
DEADLINE_SECONDS = 2 * 3600.0


@dataclass(frozen=True, slots=True)
class Case:
    """A model, settings of the learner, and what it trains on.

    Attributes:
        longest: tokens of the first completion of each group; the others have `COMPLETION`.
        group_size, groups, steps: completions of a group, groups of a batch, batches.
        checkpoint: whether one is written all through the last step.
    """

    name: str
    model: dict[str, Any]
    learner: dict[str, Any]
    longest: int = COMPLETION
    group_size: int = GROUP_SIZE
    groups: int = GROUPS
    steps: int = 3
    checkpoint: bool = False


def _model(kind: str, hidden: int, layers: int, heads: int, kv: int, width: int, vocabulary: int) -> dict[str, Any]:
    return {"model_type": kind} | sizes(hidden, layers, heads, kv, width, vocabulary, tied=False)


MANY_PARAMETERS = Case("many parameters", _model("qwen2", 640, 6, 10, 2, 2560, 8192), {})
CASES = (
    MANY_PARAMETERS,
    Case(
        "many activations",
        _model("llama", 256, 8, 4, 4, 1024, 1024),
        {"micro_batch_tokens": 4 * GROUP_TOKENS},
    ),
    Case(
        "checkpointing",
        _model("llama", 384, 8, 6, 2, 1024, 16384),
        {"gradient_checkpointing": True, "micro_batch_tokens": 4 * GROUP_TOKENS},
    ),
    # by these nothing was fitted
    Case(
        "a large vocabulary, tied",
        _model("llama", 256, 4, 4, 2, 768, 65536) | {"tie_word_embeddings": True},
        {},
    ),
    Case(
        "a reference policy",
        _model("qwen2", 384, 6, 6, 2, 1536, 8192),
        {"objective": {"kl": "k3", "kl_coefficient": 0.01}},
    ),
    replace(MANY_PARAMETERS, name="many parameters, and a checkpoint", checkpoint=True),
)


def long_cases(longest: int) -> Iterator[Case]:
    """One sequence of SmolLM2-135M's shape that is longer and longer, and a short one to compare its reward with."""
    tokens = SHORTEST
    while tokens <= longest:
        yield Case(
            f"{tokens:,} tokens",
            dict(SMOLLM2) | {"max_position_embeddings": longest},
            {"gradient_checkpointing": True, "micro_batch_tokens": SHORTEST},
            longest=tokens - PROMPT,
            group_size=2,
            groups=1,
            steps=1,
        )
        tokens *= 2


def learner_of(case: Case) -> LearnerConfig:
    settings = {
        "dtype": "float32",  # in bfloat16 CPUs without AMX take minutes for a small step
        "device": "cpu",
        "threads": 1,
        "micro_batch_tokens": 2 * GROUP_TOKENS,
        "logit_chunk_tokens": 256,
        **case.learner,
    }
    return LearnerConfig.model_validate(settings)


def predicted(case: Case) -> float:
    config = learner_of(case)
    alone = case.longest > COMPLETION
    batch = MicroBatch(PROMPT, case.longest, 1 if alone else case.group_size, config.micro_batch_tokens)
    shape = of_config(case.model, case.name)
    parts = learner_rank(shape, config, batch)
    beside = checkpoint_beside(shape, config, parts, every_steps=1) if case.checkpoint else 0.0
    return sum(parts.values()) + beside


def measured(case: Case) -> float:
    """Peak of a process over what it had with everything imported (bytes)."""
    from transformers import AutoConfig, AutoModelForCausalLM

    with tempfile.TemporaryDirectory() as folder:
        AutoModelForCausalLM.from_config(AutoConfig.for_model(**case.model)).save_pretrained(folder)
        command = [sys.executable, "-m", "benchmarks.memory", jsonlib.dumps(asdict(case)), folder]
        done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=True)
    return float(jsonlib.loads(done.stdout.splitlines()[-1]))


def run(json: Path | None = None, longest: int | None = None) -> bool:
    """Print the table's figure and the measured one of each case; returns whether all are within the target.

    Args:
        json: where to write the figures, too.
        longest: take `long_cases` up to so many tokens instead of `CASES`.
    """
    cases: Sequence[Case] = CASES if longest is None else tuple(long_cases(longest))
    table = Table("", "predicted (GB)", "measured (GB)", "off", box=box.SIMPLE)
    found = []
    for case in cases:
        table_says, there_was = predicted(case), measured(case)
        off = table_says / there_was - 1
        found.append({"name": case.name, "predicted": table_says, "measured": there_was, "off": off})
        table.add_row(case.name, f"{table_says / 1e9:.3f}", f"{there_was / 1e9:.3f}", f"{off:+.1%}")
        print(f"{case.name}: {table_says / 1e9:.3f} GB predicted, {there_was / 1e9:.3f} GB measured", flush=True)
    console.print(table)
    print(f"target: {TARGET:.0%}")
    if json:
        json.write_text(jsonlib.dumps(found, indent=2))
    return all(abs(float(one["off"])) <= TARGET for one in found)


def main(case: Case, folder: str) -> None:
    import transformers.models.llama.modeling_llama
    import transformers.models.qwen2.modeling_qwen2  # noqa: F401

    from benchmarks.processes import peak_bytes, resident_bytes
    from learner import Completion, Group, Trainer

    config, source = learner_of(case), np.random.default_rng(0)
    before = resident_bytes()
    trainer = Trainer(config, folder, seed=0)
    kept = trainer.snapshot()
    for step in range(case.steps):
        with _written(trainer, Path(folder)) if case.checkpoint and step == case.steps - 1 else nullcontext():
            trainer.train_step([_group(i, case, source, Group, Completion) for i in range(case.groups)])
            kept = trainer.snapshot()
    assert kept  # as the publisher keeps it
    print(jsonlib.dumps(peak_bytes(os.getpid()) - before))


@contextmanager
def _written(trainer: Any, folder: Path) -> Iterator[None]:
    """A checkpoint that is begun before the block, and whose first byte is written behind it, as to slow storage."""
    from torch.distributed.checkpoint import FileSystemWriter

    write, stepped = FileSystemWriter.write_data, threading.Event()

    def held(writer: Any, *arguments: Any) -> Any:
        assert stepped.wait(DEADLINE_SECONDS)
        return write(writer, *arguments)

    FileSystemWriter.write_data = held  # type: ignore[method-assign]
    saved = trainer.save_async(folder / "checkpoints" / "step-000001", {})
    yield
    stepped.set()
    saved.result(DEADLINE_SECONDS)


def _group(number: int, case: Case, source: Any, group: Any, completion: Any) -> Any:
    def tokens(count: int) -> Any:
        return source.integers(0, case.model["vocab_size"], count).astype(np.int32)

    completions = tuple(
        completion(tokens(n), np.full(n, -9, np.float32), np.zeros(n, np.int32), i % 2.0)
        for i, n in enumerate([case.longest] + [COMPLETION] * (case.group_size - 1))
    )
    return group(tokens(PROMPT), completions, number)


if __name__ == "__main__":
    main(Case(**jsonlib.loads(sys.argv[1])), sys.argv[2])
