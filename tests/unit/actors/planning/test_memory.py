"""Memory by formula, against figures by hand."""

from dataclasses import replace
from typing import Any

import pytest

from actors.config.roles import GeneratorsConfig
from actors.planning.architectures import ModelShape
from actors.planning.memory import (
    BLOCK,
    CODE,
    HOLES,
    MicroBatch,
    activations,
    adapters,
    cache_tokens,
    checkpoint,
    checkpoint_beside,
    generator_device,
    learner_host,
    learner_rank,
    loading,
)
from learner.config import LearnerConfig

#: 1,000 x 64 embeddings twice; a layer: 4 x 64 x 64 of attention, 3 x 64 x 128 of MLP, 2 x 64 of norms.
SMALL = ModelShape(layers=2, hidden=64, intermediate=128, heads=4, kv_heads=4, head=16, vocabulary=1000)
LAYER = 4 * 64 * 64 + 3 * 64 * 128 + 2 * 64
PARAMETERS = 2 * 1000 * 64 + 64 + 2 * LAYER
BATCH = MicroBatch(prompt=10, completion=30, group_size=4, tokens=130)


def learner(**changes: Any) -> LearnerConfig:
    return LearnerConfig.model_validate({"dtype": "float32", "logit_chunk_tokens": 100, **changes})


def test_sixteen_bytes_a_parameter_are_resident_and_shared_by_the_ranks() -> None:
    assert SMALL.parameters == PARAMETERS
    one, of_four = (learner_rank(SMALL, learner(ranks=ranks), BATCH) for ranks in (1, 4))
    for share, parts in ((PARAMETERS, one), (PARAMETERS / 4, of_four)):
        assert parts["weights"] == parts["gradients"] == 4 * share
        assert parts["moments"] == 8 * share
    assert one["gathered layers"] == 0
    assert of_four["gathered layers"] == 4 * (2 * 1000 * 64 + 64 + 2 * LAYER) + 4 * LAYER
    assert loading(SMALL, learner(ranks=4)) == {"weights": PARAMETERS, "gathered layers": 4 * LAYER}
    assert loading(SMALL, learner(ranks=4, lora={"rank": 8})) == loading(SMALL, learner(ranks=4))


def test_what_the_allocator_keeps_is_of_cpus_and_of_a_pass_alone() -> None:
    on_cpu, on_gpu = (learner_rank(SMALL, learner(gpus=gpus), BATCH) for gpus in (0, 1))
    assert on_gpu["allocator"] == 0
    assert on_cpu["allocator"] == pytest.approx(CODE + HOLES * (on_cpu["activations"] + on_cpu["output layer"]))


def test_the_head_takes_a_block_of_the_vocabulary() -> None:
    wide = replace(SMALL, vocabulary=100_000)
    for dtype, width in (("float32", 0), ("bfloat16", 2)):
        block = 100 * BLOCK * (8 + width) + width * BLOCK * 64
        one, two = (learner_rank(wide, learner(dtype=dtype, ranks=ranks), BATCH) for ranks in (1, 2))
        assert one["output layer"] == block
        assert two["output layer"] == block + 4 * 100_000 * 64


def test_only_the_first_rank_keeps_a_copy_to_send_in_the_compute_dtype() -> None:
    config = learner(ranks=4, dtype="bfloat16")
    assert learner_rank(SMALL, config, BATCH)["staging"] == 2 * PARAMETERS
    assert learner_rank(SMALL, config, BATCH, share=0)["staging"] == 0


def test_several_senders_keep_a_share_each() -> None:
    config = learner(ranks=4, dtype="bfloat16")
    assert learner_rank(SMALL, config, BATCH, share=0.25)["staging"] == 2 * PARAMETERS / 4
    assert learner_host(SMALL, learner(ranks=4, gpus=1, dtype="bfloat16"), share=0.25)["staging"] == PARAMETERS


def test_a_gpu_holds_pieces_of_what_is_sent_in_the_place_of_a_pass() -> None:
    config = learner(ranks=4, gpus=1, dtype="bfloat16")
    for share, pieces in ((1, 1.25), (0.5, 1.25), (0, 0.25)):
        parts = learner_rank(SMALL, config, BATCH, share)
        assert parts["staging"] == pytest.approx(pieces * 2**26 - parts["activations"] - parts["output layer"])
    assert learner_rank(SMALL, config, replace(BATCH, tokens=10**6))["staging"] == 0
    assert learner_rank(SMALL, learner(gpus=1), replace(BATCH, tokens=1))["staging"] < 2**26


def test_a_second_copy_is_made_where_a_pass_leaves_no_room_for_it() -> None:
    small = MicroBatch(prompt=1, completion=1, group_size=1, tokens=2)
    parts = learner_rank(SMALL, learner(logit_chunk_tokens=1, lora={"rank": 1}), small)
    other = parts["activations"] + parts["output layer"]
    assert other + parts["staging"] == pytest.approx(2 * 4 * PARAMETERS)


def test_a_reference_is_another_set_of_weights_unless_it_is_adapters() -> None:
    kl = {"kl": "k3", "kl_coefficient": 0.01}
    assert learner_rank(SMALL, learner(objective=kl), BATCH)["reference"] == 4 * PARAMETERS
    assert learner_rank(SMALL, learner(objective=kl, lora={"rank": 8}), BATCH)["reference"] == 0


def test_what_is_offloaded_is_in_the_memory_of_the_host() -> None:
    kl = {"kl": "k3", "kl_coefficient": 0.01}
    here, there = (
        learner(gpus=1, ranks=2, objective=kl, optimizer={"offload": place}, dtype="bfloat16")
        for place in ("none", "cpu")
    )
    device, host = learner_rank(SMALL, there, BATCH), learner_host(SMALL, there)
    for part, bytes_each in (("weights", 4), ("gradients", 4), ("moments", 8), ("reference", 4)):
        assert device[part] == 0
        assert host[part] == learner_rank(SMALL, here, BATCH)[part] == bytes_each * PARAMETERS / 2
    assert device["staging"] == 0
    assert device["gathered layers"] == learner_rank(SMALL, here, BATCH)["gathered layers"] + 4 * LAYER / 2
    assert host["staging"] == 2 * 2 * PARAMETERS
    assert learner_host(SMALL, there, share=0)["staging"] == 0
    assert learner_host(SMALL, here) == {"staging": host["staging"], "checkpoint": 16 * PARAMETERS / 2}


def test_one_rank_that_offloads_gathers_its_layers_as_several_do() -> None:
    parts = learner_rank(SMALL, learner(gpus=1, optimizer={"offload": "cpu"}, dtype="bfloat16"), BATCH)
    assert parts["gathered layers"] == 2 * (2 * 1000 * 64 + 64 + 2 * LAYER) + 4 * 2 * LAYER


def test_a_checkpoint_is_written_beside_a_step_or_in_the_place_of_the_last_one() -> None:
    parts = learner_rank(SMALL, learner(), BATCH)
    assert checkpoint(SMALL, learner()) == 12 * PARAMETERS
    assert checkpoint_beside(SMALL, learner(), parts, every_steps=20) == 12 * PARAMETERS
    step = parts["gradients"] + parts["activations"] + parts["output layer"]
    assert checkpoint_beside(SMALL, learner(), parts, every_steps=0) == pytest.approx(max(0, 12 * PARAMETERS - step))
    tiny = MicroBatch(prompt=1, completion=1, group_size=1, tokens=2)
    parts = learner_rank(SMALL, learner(logit_chunk_tokens=1), tiny)
    assert checkpoint_beside(SMALL, learner(), parts, every_steps=0) > 0


def test_adapters_alone_have_gradients_and_moments() -> None:
    own = 8 * 2 * (4 * (64 + 64) + 3 * (64 + 128))
    assert adapters(SMALL, 8) == own
    parts = learner_rank(SMALL, learner(lora={"rank": 8, "broadcast": "adapters"}), BATCH)
    assert (parts["weights"], parts["gradients"], parts["moments"]) == (4 * (own + PARAMETERS), 4 * own, 8 * own)
    assert parts["staging"] == 4 * own


def test_what_a_layer_keeps_is_counted_tensor_by_tensor() -> None:
    """Four of 64 around the norms, two of 128 in the MLP, 64 before the output projection; rows: q, k, v and out."""
    assert BATCH.fed == 130
    assert BATCH.rows == 160  # the prompt of 10 tokens stands before each of four completions
    layer = 130 * (4 * 64 + 2 * 128 + 64) * 4 + 160 * 4 * 64 * 4
    assert activations(SMALL, learner(), BATCH) == 2 * layer
    assert activations(SMALL, learner(gradient_checkpointing=True), BATCH) == 2 * 130 * 64 * 4 + layer


def test_a_sequence_longer_than_a_micro_batch_goes_alone() -> None:
    assert MicroBatch(prompt=10, completion=500, group_size=4, tokens=130).fed == 510


def test_an_engine_keeps_its_cache_in_what_is_left() -> None:
    generators = GeneratorsConfig.model_validate(
        {"gpus": 2, "vllm": {"tensor_parallel_size": 2, "gpu_memory_utilization": 0.5}}
    )
    parts = generator_device(SMALL, generators, 10e9)
    assert parts["weights"] == 2 * PARAMETERS / 2
    assert sum(parts.values()) == pytest.approx(5e9)
    # keys and values of two layers, 64 wide, in two bytes, half of them on either device
    assert cache_tokens(SMALL, generators, 512.0) == 512 * 2 // (2 * 2 * 64 * 2)


def test_an_engine_on_cpus_receives_updates_beside_its_weights() -> None:
    parts = generator_device(SMALL, GeneratorsConfig(dtype="float32"), 1e9)
    assert parts["staging"] == parts["weights"] == 4 * PARAMETERS


def test_an_engine_without_room_has_no_cache() -> None:
    generators = GeneratorsConfig.model_validate({"gpus": 1})
    assert generator_device(SMALL, generators, 1e9)["key-value cache"] == 0
