"""The trainer: it learns, streams and exports its weights, and refuses bad input."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from learner import (
    STATISTICS,
    BatchError,
    Group,
    LearnerConfig,
    NonFiniteError,
    ObjectiveConfig,
    OptimizerConfig,
    Trainer,
)
from learner.batch import load_groups, save_groups
from learner.model.packing import Segment, pack
from tests.unit.learner.conftest import GroupFactory

CONFIG = LearnerConfig(
    dtype="float32",
    device="cpu",
    micro_batch_tokens=64,
    optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=2),
)


def _weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return dict(trainer.snapshot())


def test_step_reports_every_documented_statistic(tiny_model: Path, make_groups: GroupFactory) -> None:
    trainer = Trainer(CONFIG, tiny_model, seed=0)
    statistics = trainer.train_step(make_groups())
    assert set(statistics) == set(STATISTICS)
    assert all(np.isfinite(v) for v in statistics.values())
    assert trainer.version == 1


def test_utilisation_is_of_the_devices_peak(tiny_model: Path, make_groups: GroupFactory) -> None:
    measured = Trainer(CONFIG, tiny_model, seed=0).train_step(make_groups())
    assert 0 < measured["mfu"] < 1
    told = CONFIG.model_copy(update={"peak_teraflops": 50.0})
    statistics = Trainer(told, tiny_model, seed=0).train_step(make_groups())
    assert statistics["mfu"] == pytest.approx(statistics["teraflops"] / 50.0)


def test_the_parts_of_the_reward_are_averaged(tiny_model: Path, make_groups: GroupFactory, tmp_path: Path) -> None:
    def with_parts(group: Group, parts: dict[str, float]) -> Group:
        return replace(group, completions=tuple(replace(c, parts=parts) for c in group.completions))

    first, second = make_groups(count=2)
    groups = [with_parts(first, {"accuracy": 1.0, "format": 0.5}), with_parts(second, {"accuracy": 0.0})]
    save_groups(groups, tmp_path / "groups.npz")
    statistics = Trainer(CONFIG, tiny_model, seed=0).train_step(load_groups(tmp_path / "groups.npz"))
    assert statistics["reward/accuracy"] == 0.5
    assert statistics["reward/format"] == 0.5, "a part counts where it is named only"


@pytest.mark.parametrize("name", ["grpo", "clip_cov", "kl_cov"])
def test_micro_batches_do_not_change_the_update(tiny_model: Path, make_groups: GroupFactory, name: str) -> None:
    groups = make_groups(count=6)
    config = CONFIG.model_copy(update={"objective": ObjectiveConfig(name=name)})
    one, many = (
        Trainer(config.model_copy(update={"micro_batch_tokens": n}), tiny_model, seed=0) for n in (100_000, 30)
    )
    a, b = one.train_step(groups), many.train_step(groups)
    assert a["loss"] == pytest.approx(b["loss"], rel=1e-6, abs=1e-6)
    assert a["gradient_norm"] == pytest.approx(b["gradient_norm"], rel=1e-4)


def test_checkpointed_activations_give_the_same_update(tiny_model: Path, make_groups: GroupFactory) -> None:
    groups = make_groups()
    forwards = {False: 0, True: 0}
    weights = {}
    for checkpointing in forwards:
        config = CONFIG.model_copy(update={"gradient_checkpointing": checkpointing})
        trainer = Trainer(config, tiny_model, seed=0)

        def count(*_: object, key: bool = checkpointing) -> None:
            forwards[key] += 1

        trainer.model.model.layers[0].self_attn.register_forward_pre_hook(count)
        trainer.train_step(groups)
        weights[checkpointing] = _weights(trainer)
    assert forwards[True] == 2 * forwards[False], "activations were not recomputed"
    for name, tensor in weights[False].items():
        torch.testing.assert_close(weights[True][name], tensor, atol=1e-7, rtol=0)


def test_equal_rewards_change_nothing(tiny_model: Path, make_groups: GroupFactory) -> None:
    groups = [replace(g, completions=tuple(replace(c, reward=1.0) for c in g.completions)) for g in make_groups()]
    trainer = Trainer(CONFIG, tiny_model, seed=0)
    before = _weights(trainer)
    statistics = trainer.train_step(groups)
    assert statistics["optimizer_steps"] == 0 and statistics["trained_tokens"] == 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in _weights(trainer).items())
    assert trainer.version == 1


def test_skipping_silent_groups_is_exact(tiny_model: Path, make_groups: GroupFactory) -> None:
    groups = make_groups(count=3)
    groups[1] = replace(groups[1], completions=tuple(replace(c, reward=0.5) for c in groups[1].completions))
    skipping = Trainer(CONFIG, tiny_model, seed=0)
    kl = ObjectiveConfig(kl="k3", kl_coefficient=1e-30)  # keeps every token in the graph, adds nothing
    complete = Trainer(CONFIG.model_copy(update={"objective": kl}), tiny_model, seed=0)
    a, b = skipping.train_step(groups), complete.train_step(groups)
    assert a["trained_tokens"] < b["trained_tokens"]
    assert a["gradient_norm"] == pytest.approx(b["gradient_norm"], rel=1e-5)


def test_named_tensors_and_export_agree(tiny_model: Path, make_groups: GroupFactory, tmp_path: Path) -> None:
    trainer = Trainer(CONFIG, tiny_model, seed=0)
    trainer.train_step(make_groups())
    tensors = _weights(trainer)
    assert "lm_head.weight" not in tensors, "tied weights appear once"
    assert list(tensors) == [name for name, _ in trainer.named_tensors()]
    trainer.export(tmp_path / "exported")
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "exported")
    assert exported.dtype == torch.float32
    for name, parameter in exported.named_parameters():
        assert torch.equal(parameter, tensors[name])
    assert (tmp_path / "exported" / "tokenizer.json").exists()


def test_snapshot_survives_the_next_step(tiny_model: Path, make_groups: GroupFactory) -> None:
    trainer = Trainer(CONFIG, tiny_model, seed=0)
    snapshot = trainer.snapshot()
    copies = [tensor.clone() for _, tensor in snapshot]
    trainer.train_step(make_groups())
    assert all(torch.equal(tensor, copy) for (_, tensor), copy in zip(snapshot, copies, strict=True))


@pytest.mark.parametrize("field", ["tokens", "logprobs"])
def test_bad_batches_are_refused_before_anything_changes(
    tiny_model: Path, make_groups: GroupFactory, field: str
) -> None:
    groups = make_groups(count=1)
    broken = getattr(groups[0].completions[0], field).copy()
    broken[0] = {"tokens": 9999, "logprobs": np.nan}[field]
    bad = replace(groups[0].completions[0], **{field: broken})
    trainer = Trainer(CONFIG, tiny_model, seed=0)
    with pytest.raises(BatchError, match="group 0, completion 0"):
        trainer.train_step([replace(groups[0], completions=(bad, *groups[0].completions[1:]))])
    assert trainer.version == 0


def test_reference_is_frozen_or_refreshed(tiny_model: Path, make_groups: GroupFactory) -> None:
    def kls(refresh: int) -> list[float]:
        objective = ObjectiveConfig(kl="k3", kl_coefficient=0.01, reference_refresh_steps=refresh)
        trainer = Trainer(CONFIG.model_copy(update={"objective": objective}), tiny_model, seed=0)
        return [trainer.train_step(make_groups(seed=step))["kl"] for step in range(4)]

    frozen, refreshed = kls(0), kls(2)
    assert frozen[0] == refreshed[0] == pytest.approx(0.0, abs=1e-7)
    assert frozen[1] == refreshed[1] > 1e-7
    assert frozen[2] > 1e-7 and refreshed[2] == pytest.approx(0.0, abs=1e-7)


def test_proximal_policy_is_the_one_before_the_first_step(tiny_model: Path, make_groups: GroupFactory) -> None:
    """Two epochs of decoupled PPO: in the first the ratio to the proximal policy is 1, in the second it is not."""
    config = CONFIG.model_copy(update={"objective": ObjectiveConfig(name="decoupled_ppo"), "epochs": 2})
    config = config.model_copy(update={"optimizer": OptimizerConfig(learning_rate=1e-2)})
    statistics = Trainer(config, tiny_model, seed=0).train_step(make_groups())
    assert statistics["optimizer_steps"] == 2
    assert statistics["ratio_min"] < 0.999 and statistics["ratio_max"] > 1.001
    once = Trainer(config.model_copy(update={"epochs": 1}), tiny_model, seed=0).train_step(make_groups())
    assert once["ratio_min"] == once["ratio_max"] == 1.0


def test_temperature_reaches_the_logprobs(tiny_model: Path, make_groups: GroupFactory) -> None:
    hot = Trainer(CONFIG, tiny_model, seed=0).train_step(make_groups(), temperature=2.0)
    cold = Trainer(CONFIG, tiny_model, seed=0).train_step(make_groups(), temperature=0.5)
    assert hot["entropy"] > cold["entropy"]


def test_engine_difference_counts_fresh_tokens_only(tiny_model: Path, make_groups: GroupFactory) -> None:
    trainer = Trainer(CONFIG, tiny_model, seed=0)
    fresh = trainer.train_step(make_groups(version=0, age=0))
    assert fresh["logprob_difference_tokens"] == fresh["trained_tokens"] and fresh["logprob_difference_mean"] > 0
    old = trainer.train_step(make_groups(version=0, age=3))
    assert old["logprob_difference_tokens"] == 0 and old["staleness_max"] == 4


def test_bfloat16_keeps_float32_masters_and_sends_bfloat16(tiny_model: Path, make_groups: GroupFactory) -> None:
    trainer = Trainer(CONFIG.model_copy(update={"dtype": "bfloat16"}), tiny_model, seed=0)
    groups = make_groups()
    low = trainer.train_step(groups)
    high = Trainer(CONFIG, tiny_model, seed=0).train_step(groups)
    assert low["loss"] == pytest.approx(high["loss"], abs=0.02)
    assert all(p.dtype == torch.float32 for p in trainer.model.parameters())
    assert all(tensor.dtype == torch.bfloat16 for _, tensor in trainer.named_tensors())


def test_fused_kernels_round_no_worse_in_bfloat16(tiny_model: Path, make_groups: GroupFactory) -> None:
    packed = pack([Segment(g.prompt, tuple(c.tokens for c in g.completions), (0, 1, 2, 3)) for g in make_groups()])
    groups, logprobs, norms = make_groups(), {}, {}
    for name, update in {
        "exact": {"dtype": "float32"},
        "original": {"dtype": "bfloat16", "fused_kernels": False},
        "fused": {"dtype": "bfloat16", "fused_kernels": True},
    }.items():
        trainer = Trainer(CONFIG.model_copy(update=update), tiny_model, seed=0)
        with torch.no_grad():
            logprobs[name] = trainer.policy(packed)[0]
        norms[name] = trainer.train_step(groups)["gradient_norm"]
    original, fused = ((logprobs[name] - logprobs["exact"]).abs().mean() for name in ("original", "fused"))
    assert 0 < fused < 1.2 * original
    assert norms["fused"] == pytest.approx(norms["original"], rel=0.02)


def test_fast_backward_changes_gradients_by_rounding_only(tiny_model: Path, make_groups: GroupFactory) -> None:
    groups = make_groups()
    exact = Trainer(CONFIG, tiny_model, seed=0).train_step(groups)
    fast = Trainer(CONFIG.model_copy(update={"backward_precision": "bfloat16"}), tiny_model, seed=0).train_step(groups)
    assert fast["loss"] == exact["loss"]
    assert fast["gradient_norm"] == pytest.approx(exact["gradient_norm"], rel=1e-2)


def test_non_finite_steps_are_skipped_counted_and_end_the_run(
    tiny_model: Path, make_groups: GroupFactory, tmp_path: Path
) -> None:
    config = CONFIG.model_copy(update={"max_non_finite_steps": 2, "inspection_folder": str(tmp_path)})
    trainer = Trainer(config, tiny_model, seed=0)
    good = make_groups()
    poisoned = [
        replace(
            g,
            completions=tuple(
                replace(c, logprobs=np.full_like(c.logprobs, -1e30), reward=-r) for r, c in enumerate(g.completions)
            ),
        )
        for g in good
    ]
    before = _weights(trainer)
    assert trainer.train_step(poisoned)["non_finite"] == 1
    assert all(torch.equal(tensor, before[name]) for name, tensor in _weights(trainer).items())
    assert trainer.train_step(good)["non_finite"] == 0
    trainer.train_step(poisoned)
    with pytest.raises(NonFiniteError, match="2 optimizer steps in a row") as error:
        trainer.train_step(poisoned)
    (file,) = tmp_path.glob("*.npz")
    assert str(file) in str(error.value)
    assert "engine and learner disagree by" in str(error.value)
    saved = load_groups(file)
    assert [g.id for g in saved] == [g.id for g in poisoned]
    assert np.array_equal(saved[1].completions[2].tokens, poisoned[1].completions[2].tokens)


def test_overflowed_weights_are_explained_and_leave_the_statistics_finite(
    tiny_model: Path, make_groups: GroupFactory, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = Trainer(CONFIG, tiny_model, seed=0)
    with torch.no_grad():
        trainer.model.model.layers[0].mlp.up_proj.weight[0, 0] = torch.inf
    with caplog.at_level("WARNING"):
        statistics = trainer.train_step(make_groups())
    assert statistics["non_finite"] == 1 and statistics["optimizer_steps"] == 0
    assert statistics["trained_tokens"] == 0 and all(np.isfinite(v) for v in statistics.values())
    assert "no finite logprob under the policy" in caplog.text
