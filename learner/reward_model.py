"""A scalar reward model trained on preferences (Bradley & Terry 1952; InstructGPT, Ouyang et al. 2022, eq. 1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from learner.batch import Float32, Int32
from learner.config import LearnerConfig, SftConfig
from learner.errors import BatchError
from learner.model import loading, weights
from learner.model.packing import Segment, pack, plan_micro_batches
from learner.model.policy import DTYPES
from learner.model.self_check import SelfCheck
from learner.runtime import device_of
from learner.sft import fit

Pair = tuple[Int32, Int32, Int32]  # prompt, chosen answer, rejected answer


class RewardModel:
    """r(q, o): a Hugging Face sequence classifier with one label, read at the last token of the answer.

    Raises:
        ModelError: where no such model can be built on the folder.
    """

    def __init__(self, config: LearnerConfig, model_path: str | Path, seed: int) -> None:
        torch.manual_seed(seed)
        self.config = config
        self.seed = seed
        self.model_path = Path(model_path)
        self.device = device_of(config)
        if config.threads:
            torch.set_num_threads(config.threads)
        self.model = loading.load(AutoModelForSequenceClassification, model_path, self.device, num_labels=1)
        self._dtype = torch.float32  # of the check
        check = SelfCheck(self.model, model_path, self._own_reward)
        check.require(lambda segments: self.rewards(segments).unbind())
        self._dtype = DTYPES[config.dtype]
        self.model.train()

    @property
    def max_length(self) -> int | None:
        """Most tokens of a prompt and its answer together; None where the model's configuration names no bound."""
        return loading.context_length(self.model.config)

    def fits(self, prompt: Int32, *completions: Int32) -> bool:
        """Whether the model can read each of the completions after the prompt."""
        return self.max_length is None or all(len(prompt) + len(c) <= self.max_length for c in completions)

    def _own_reward(self, ids: Tensor, _prompt: int) -> Tensor:
        reward: Tensor = self.model(input_ids=ids, use_cache=False).logits[0, 0]
        return reward

    def rewards(self, segments: Sequence[Segment]) -> Tensor:
        """r [S] of every completion of `segments`, in packed order; differentiable."""
        # Packing feeds all but the last token of an answer; one more token at the end feeds the whole answer.
        longer = [
            Segment(s.prompt, tuple(np.append(c, np.int32(0)) for c in s.completions), s.indices) for s in segments
        ]
        packed = pack(longer, self.device)
        with torch.autocast(self.device.type, self._dtype, enabled=self._dtype != torch.float32):
            hidden = self.model.base_model(
                input_ids=packed.tokens[None],
                position_ids=packed.positions[None],
                attention_mask=torch.empty(1, 1, 1, 0, device=self.device),
                use_cache=False,
                layout=packed.layout,
            ).last_hidden_state[0]
        last = packed.predictors[packed.lengths.cumsum(0) - 1]
        scores: Tensor = self.model.score(hidden[last].float())[:, 0]
        return scores

    def score(self, examples: Sequence[tuple[Int32, Int32]]) -> Float32:
        """r of pairs of an int32 prompt [P] and completion [T], without dropout; equal prompts run once.

        Returns:
            float32 [len(examples)].

        Raises:
            BatchError: for a pair that is longer than `max_length`.
        """
        by_prompt: dict[bytes, list[int]] = {}
        for i, (prompt, completion) in enumerate(examples):
            if not self.fits(prompt, completion):
                raise BatchError(
                    f"prompt and answer are {len(prompt) + len(completion)} tokens, and the reward model reads "
                    f"{self.max_length} at most; shorten prompts or answers, or take a model with a longer context"
                )
            by_prompt.setdefault(prompt.tobytes(), []).append(i)
        out = np.zeros(len(examples), dtype=np.float32)
        segments = [
            Segment(examples[own[0]][0], tuple(examples[i][1] for i in own), tuple(own)) for own in by_prompt.values()
        ]
        self.model.eval()
        for part in plan_micro_batches(segments, self.config.micro_batch_tokens):
            with torch.no_grad():
                out[[i for s in part for i in s.indices]] = self.rewards(part).cpu().numpy()
        return out

    def export(self, folder: Path) -> None:
        """Write a Hugging Face folder (`AutoModelForSequenceClassification`, one label); this class reads it too."""
        tensors = {name: p.detach() for name, p in self.model.named_parameters()}
        weights.export(self.model, tensors, self.model_path, folder)


def train_reward_model(
    reward_model: RewardModel,
    pairs: Sequence[Pair],
    config: SftConfig,
    should_stop: Callable[[int], bool] | None = None,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
    held_out: Sequence[Pair] = (),
) -> dict[str, float]:
    """Train on preferences: loss = -mean log sigmoid(r(q, chosen) - r(q, rejected)), on one rank.

    Args:
        reward_model: is changed in place.
        pairs: none may be longer than `reward_model.max_length`.
        config, should_stop, on_step, held_out: as in `sft.train_sft`.

    Returns:
        The statistics of the last step: loss (nats a pair), accuracy (share of pairs in the right order), margin (mean
        r difference), and those of `sft.fit`.

    Raises:
        BatchError: without pairs.
        NonFiniteError: before a step that would spoil the weights.
    """
    if not pairs:
        raise BatchError("no preference pairs to train on")
    return fit(
        list(reward_model.model.parameters()),
        len(pairs),
        config,
        reward_model.seed,
        lambda batch: _preference_loss(reward_model, [pairs[i] for i in batch], train=True),
        (lambda: evaluate_preferences(reward_model, held_out)["loss"]) if held_out else None,
        should_stop,
        on_step,
    )


def evaluate_preferences(reward_model: RewardModel, pairs: Sequence[Pair]) -> dict[str, float]:
    """loss (nats a pair), accuracy and margin on held-out pairs, as `train_reward_model` has them."""
    return _preference_loss(reward_model, pairs, train=False)


def _preference_loss(reward_model: RewardModel, pairs: Sequence[Pair], train: bool) -> dict[str, float]:
    loss, margins = 0.0, []
    segments = [Segment(q, (chosen, rejected), (2 * i, 2 * i + 1)) for i, (q, chosen, rejected) in enumerate(pairs)]
    # A pair must stay in one micro-batch, so a pair's tokens are the smallest possible budget.
    budget = max(reward_model.config.micro_batch_tokens, *(s.size for s in segments))
    reward_model.model.train(train)
    with torch.set_grad_enabled(train):
        for part in plan_micro_batches(segments, budget):
            chosen, rejected = reward_model.rewards(part).view(-1, 2).unbind(1)
            margin = chosen - rejected
            micro = -F.logsigmoid(margin).sum() / len(pairs)
            if train:
                micro.backward()  # type: ignore[no-untyped-call]
            loss += float(micro.detach())
            margins.append(margin.detach().cpu().numpy())
    margin_all: npt.NDArray[np.float32] = np.concatenate(margins)
    return {"loss": loss, "accuracy": float((margin_all > 0).mean()), "margin": float(margin_all.mean())}
