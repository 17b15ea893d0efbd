"""What a step of the learner takes in memory, beside what `leeway plan` says of it; each in a process of its own."""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import Any

import numpy as np

from actors.planning.architectures import of_config
from actors.planning.memory import MicroBatch, learner_rank
from learner.config import LearnerConfig

PROMPT, COMPLETION, GROUP_SIZE, GROUPS = 32, 96, 4, 4
#: A prompt is computed once for its completions.
GROUP_TOKENS = PROMPT + GROUP_SIZE * COMPLETION
DEADLINE_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Case:
    """A model and settings of the learner."""

    name: str
    model: dict[str, Any]
    learner: dict[str, Any]


def _model(kind: str, hidden: int, layers: int, heads: int, kv: int, width: int, vocabulary: int) -> dict[str, Any]:
    return {
        "model_type": kind,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "intermediate_size": width,
        "vocab_size": vocabulary,
        "tie_word_embeddings": False,
    }


CASES = (
    Case("many parameters", _model("qwen2", 640, 6, 10, 2, 2560, 8192), {}),
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
)


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
    batch = MicroBatch(PROMPT, COMPLETION, GROUP_SIZE, config.micro_batch_tokens)
    return sum(learner_rank(of_config(case.model, case.name), config, batch).values())


def measured(case: Case) -> float:
    """Peak of a process over what it had with everything imported (bytes)."""
    command = [sys.executable, "-m", "benchmarks.plan_memory", str(CASES.index(case))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def main(number: int) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    from benchmarks.processes import peak_bytes, resident_bytes
    from learner import Completion, Group, Trainer

    case = CASES[number]
    config, source = learner_of(case), np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        AutoModelForCausalLM.from_config(AutoConfig.for_model(**case.model)).save_pretrained(folder)
        before = resident_bytes()
        trainer = Trainer(config, folder, seed=0)
        for _ in range(2):
            trainer.train_step([_group(i, case.model["vocab_size"], source, Group, Completion) for i in range(GROUPS)])
            kept = trainer.snapshot()
        assert kept  # as the publisher keeps it
        print(json.dumps(peak_bytes(os.getpid()) - before))


def _group(number: int, vocabulary: int, source: Any, group: Any, completion: Any) -> Any:
    def tokens(count: int) -> Any:
        return source.integers(0, vocabulary, count).astype(np.int32)

    completions = tuple(
        completion(tokens(COMPLETION), np.full(COMPLETION, -9, np.float32), np.zeros(COMPLETION, np.int32), i % 2.0)
        for i in range(GROUP_SIZE)
    )
    return group(tokens(PROMPT), completions, number)


if __name__ == "__main__":
    main(int(sys.argv[1]))
