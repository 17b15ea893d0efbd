"""What the C library's heap keeps between tensors."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from learner import LearnerConfig, Trainer
from learner.config import SftConfig
from learner.runtime import LARGEST_KEPT_BYTES, LARGEST_KEPT_OF_LONG_BYTES
from learner.sft import train_sft
from tests.unit.learner.conftest import GroupFactory

#: Frees a dozen blocks of 8 MiB in a pass of so many tokens, and says which share of them is still resident (%).
FREED = """
import sys, torch
from learner.runtime import fit_allocator, tune_allocator

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

tune_allocator()
fit_allocator(torch.zeros(int(sys.argv[1])), budget=1024)
before = resident()
blocks = [torch.ones(2 << 20) for _ in range(12)]
taken = resident() - before
del blocks
print(round(100 * (resident() - before) / taken))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is told")
@pytest.mark.parametrize(("tokens", "kept"), [(1024, True), (1025, False)])
def test_blocks_are_kept_for_the_next_tensor_but_in_a_pass_that_is_longer_than_a_micro_batch(
    tokens: int, kept: bool
) -> None:
    command = [sys.executable, "-c", FREED, str(tokens)]
    share = int(subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout)
    assert share > 80 if kept else share < 20


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What the heap is told to keep, from here on."""
    found: list[int] = []
    monkeypatch.setattr("learner.runtime.keep_freed", found.append)
    return found


def test_a_step_keeps_less_while_a_sequence_goes_through_alone(
    tiny_model: Path, make_groups: GroupFactory, told: list[int]
) -> None:
    config = LearnerConfig(dtype="float32", device="cpu", micro_batch_tokens=32)
    trainer = Trainer(config, tiny_model, seed=0)
    del told[:]
    trainer.train_step([*make_groups(count=1, lengths=(1, 9)), *make_groups(count=1, lengths=(40, 41), seed=1)])
    assert {*told} == {LARGEST_KEPT_BYTES, LARGEST_KEPT_OF_LONG_BYTES}
    assert told[-1] == LARGEST_KEPT_BYTES, "those that are shorter come last"


def test_so_does_a_step_of_supervised_training(tiny_model: Path, told: list[int]) -> None:
    config = LearnerConfig(dtype="float32", device="cpu", micro_batch_tokens=32)
    trainer = Trainer(config, tiny_model, seed=0)
    del told[:]
    tokens = np.arange(60, dtype=np.int32)
    examples = [(tokens[:4], tokens[4:]), (tokens[:4], tokens[4:9])]
    settings = SftConfig(batch_size=2, max_steps=1)
    train_sft(trainer, examples, settings)
    assert told == [LARGEST_KEPT_OF_LONG_BYTES, LARGEST_KEPT_BYTES]
