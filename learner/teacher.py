"""A teacher of on-policy distillation: a frozen causal language model that scores what another one has sampled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from learner.batch import Float32, Int32
from learner.config import LearnerConfig
from learner.errors import BatchError
from learner.model.loading import context_length
from learner.model.packing import Segment
from learner.model.policy import build_policy, sampled_logprobs
from learner.runtime import device_of


class Teacher:
    """log pi_T of sampled tokens. Its weights are held in float32, and `config.dtype` is what it computes in.

    Raises:
        ModelError: where the folder holds no model that can be packed.
    """

    def __init__(self, config: LearnerConfig, model_path: str | Path) -> None:
        if config.threads:
            torch.set_num_threads(config.threads)
        self.config = config
        self.device = device_of(config)
        self.policy = build_policy(model_path, config, self.device)
        self.policy.model.requires_grad_(False).eval()

    @property
    def max_length(self) -> int | None:
        """Most tokens of a prompt and its completion; None where the model's configuration names no bound."""
        return context_length(self.policy.model.config)

    def require_readable(self, prompt: Int32, completions: Sequence[Int32]) -> None:
        """Raises BatchError where the model cannot read a completion after the prompt, or knows a token of it not."""
        vocabulary = int(self.policy.model.config.vocab_size)
        for part in (prompt, *completions):
            if len(part) == 0 or part.min() < 0 or part.max() >= vocabulary:
                raise BatchError(
                    f"a prompt or completion is empty, or has tokens that the teacher's {vocabulary} are not; the "
                    "teacher must have the student's tokenizer"
                )
        longest = len(prompt) + max(map(len, completions))
        if self.max_length is not None and longest > self.max_length:
            raise BatchError(
                f"prompt and completion are {longest} tokens, and the teacher reads {self.max_length} at most; lower "
                "generators.sampling.max_tokens, or take a teacher that reads more"
            )

    def logprobs(self, groups: Sequence[tuple[Int32, Sequence[Int32]]], temperature: float) -> list[list[Float32]]:
        """Logprobs of the tokens of every completion of each group.

        Args:
            groups: prompts int32 [P] with their completions int32 [T_i] each; see `require_readable`.
            temperature: at which the completions were sampled; the teacher's logits are divided by it, too.

        Returns:
            float32 [T_i] each (nats), in the order of `groups`.
        """
        segments, first = [], 0
        for prompt, completions in groups:
            segments.append(Segment(prompt, tuple(completions), tuple(range(first, first + len(completions)))))
            first += len(completions)
        budget = self.config.micro_batch_tokens
        found = dict(sampled_logprobs(self.policy, segments, budget, temperature, self.device))
        return [[found[index] for index in segment.indices] for segment in segments]
