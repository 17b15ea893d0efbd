"""A tiny Llama folder and random groups, shared by the learner's tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.models import small_llama
from learner import Completion, Group
from learner.batch import LossMask

VOCABULARY = 64

GroupFactory = Callable[..., list[Group]]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer Llama with grouped-query attention and tied embeddings, sharp enough to have an opinion."""
    torch.set_num_threads(1)
    folder = small_llama(
        tmp_path_factory.mktemp("tiny-llama"),
        VOCABULARY,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
        tie_word_embeddings=True,
        initializer_range=0.1,
    )
    (folder / "tokenizer.json").write_text("{}")
    return folder


@pytest.fixture(scope="session")
def make_groups() -> GroupFactory:
    """Random ragged groups; `lengths` bounds the completions, `age` the versions behind `version`; `masked` is the
    share of tokens that a loss mask excludes.
    """

    def make(
        count: int = 4,
        size: int = 4,
        lengths: tuple[int, int] = (1, 20),
        seed: int = 0,
        version: int = 0,
        age: int = 0,
        masked: float = 0.0,
    ) -> list[Group]:
        random, masks = np.random.default_rng(seed), np.random.default_rng(seed + 1)

        def loss_mask(length: int) -> LossMask | None:
            if not masked:
                return None
            mask = masks.random(length) >= masked
            mask[masks.integers(length)] = True
            return mask.astype(np.uint8)

        def completion() -> Completion:
            length = int(random.integers(lengths[0], lengths[1] + 1))
            return Completion(
                tokens=random.integers(0, VOCABULARY, length).astype(np.int32),
                logprobs=-random.gamma(4.0, 1.0, length).astype(np.float32),
                versions=(version - random.integers(0, age + 1, length)).astype(np.int32),
                reward=float(random.integers(0, 2)),
                truncated=bool(random.random() < 0.2),
                loss_mask=loss_mask(length),
            )

        def group(index: int) -> Group:
            prompt = random.integers(0, VOCABULARY, int(random.integers(1, 12))).astype(np.int32)
            return Group(prompt, tuple(completion() for _ in range(size)), index)

        return [group(i) for i in range(count)]

    return make
