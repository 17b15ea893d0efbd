"""The teacher of on-policy distillation: what it says of tokens, what it cannot read, and that a student follows it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from learner import BatchError, Group, LearnerConfig, ObjectiveConfig, OptimizerConfig, Teacher, Trainer
from tests.unit.learner.conftest import VOCABULARY, GroupFactory

CONFIG = LearnerConfig(
    dtype="float32",
    device="cpu",
    micro_batch_tokens=64,
    objective=ObjectiveConfig(name="opd"),
    optimizer=OptimizerConfig(learning_rate=1e-2),
)


def _own(folder: Path, prompt: np.ndarray, completion: np.ndarray, temperature: float) -> np.ndarray:
    """What transformers says, in double precision and one completion at a time."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
    ids = torch.from_numpy(np.concatenate((prompt, completion)).astype(np.int64))[None]
    with torch.no_grad():
        logprobs = (model(input_ids=ids).logits[0] / temperature).log_softmax(-1)
    return np.array([logprobs[len(prompt) - 1 + t, token].item() for t, token in enumerate(completion)])


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_it_says_of_every_token_what_transformers_does(
    tiny_model: Path, make_groups: GroupFactory, temperature: float
) -> None:
    groups = make_groups(count=3, size=3)
    asked = [(group.prompt, [c.tokens for c in group.completions]) for group in groups]
    found = Teacher(CONFIG, tiny_model).logprobs(asked, temperature)
    assert [[len(c) for c in each] for each in found] == [[len(c) for c in tokens] for _, tokens in asked]
    for (prompt, completions), said in zip(asked, found, strict=True):
        for completion, logprobs in zip(completions, said, strict=True):
            assert logprobs.dtype == np.float32
            np.testing.assert_allclose(logprobs, _own(tiny_model, prompt, completion, temperature), atol=2e-5)


def test_what_it_cannot_read_is_refused(tiny_model: Path) -> None:
    teacher = Teacher(CONFIG, tiny_model)
    assert teacher.max_length is not None
    prompt, longest = np.zeros(4, np.int32), np.zeros(teacher.max_length - 4, np.int32)
    teacher.require_readable(prompt, [longest])
    with pytest.raises(BatchError, match=f"the teacher reads {teacher.max_length} at most"):
        teacher.require_readable(prompt, [longest, np.append(longest, np.int32(0))])
    for unknown in (-1, VOCABULARY):
        with pytest.raises(BatchError, match=f"the teacher's {VOCABULARY} are not"):
            teacher.require_readable(prompt, [np.array([1, unknown], np.int32)])


def _taught(groups: list[Group], teacher: Teacher, student: Teacher) -> list[Group]:
    """The groups, as if the student had sampled them just now, and with what the teacher says."""
    asked = [(group.prompt, [c.tokens for c in group.completions]) for group in groups]
    said, own = teacher.logprobs(asked, 1.0), student.logprobs(asked, 1.0)
    return [
        replace(
            group,
            completions=tuple(
                replace(c, teacher_logprobs=t, logprobs=o) for c, t, o in zip(group.completions, ts, os, strict=True)
            ),
        )
        for group, ts, os in zip(groups, said, own, strict=True)
    ]


def test_a_step_moves_each_token_towards_the_teacher(
    tiny_model: Path, make_groups: GroupFactory, tmp_path: Path
) -> None:
    """The teacher is a student that was trained on other rewards; what it likes better than the student does rises."""
    rewarded = CONFIG.model_copy(update={"objective": ObjectiveConfig(name="reinforce", advantage="none")})
    other = Trainer(rewarded, tiny_model, seed=0)
    other.train_step(make_groups(count=4, seed=3))
    other.export(tmp_path / "teacher")
    student, teacher = Teacher(CONFIG, tiny_model), Teacher(CONFIG, tmp_path / "teacher")
    (group,) = _taught(make_groups(count=1, size=4), teacher, student)
    trainer = Trainer(CONFIG, tiny_model, seed=0)
    told = trainer.train_step([group])
    behaviour = np.concatenate([c.logprobs for c in group.completions])
    advantages = np.concatenate([c.teacher_logprobs for c in group.completions]) - behaviour  # type: ignore[misc]
    assert told["reverse_kl"] == pytest.approx(-advantages.mean(), abs=1e-5)
    assert told["advantage_max"] == pytest.approx(advantages.max(), abs=1e-4)
    assert told["advantage_absolute_mean"] == pytest.approx(np.abs(advantages).mean(), abs=1e-4)
    trainer.export(tmp_path / "after")
    asked = [(group.prompt, [c.tokens for c in group.completions])]
    after = np.concatenate(Teacher(CONFIG, tmp_path / "after").logprobs(asked, 1.0)[0])
    assert np.dot(after - behaviour, advantages) > 0


def test_a_student_that_is_its_teacher_learns_nothing(tiny_model: Path, make_groups: GroupFactory) -> None:
    same = Teacher(CONFIG, tiny_model)
    trainer = Trainer(CONFIG, tiny_model, seed=0)
    told = trainer.train_step(_taught(make_groups(count=2), same, same))
    assert told["gradient_norm"] < 1e-4 and abs(told["reverse_kl"]) < 1e-6


def test_without_the_teachers_logprobs_nothing_is_trained(tiny_model: Path, make_groups: GroupFactory) -> None:
    trainer = Trainer(CONFIG, tiny_model, seed=0)
    with pytest.raises(BatchError, match="without the teacher's logprobs"):
        trainer.train_step(make_groups(count=1))
    assert trainer.version == 0
