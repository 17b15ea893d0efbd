"""What fits, what does not, and which key is to be changed."""

from pathlib import Path

import pytest

from actors.commands.memory import memory_table, recipe_memory, refuse
from actors.config.loading import load
from actors.config.recipe import Recipe
from actors.errors import RecipeError
from actors.planning.architectures import ModelShape, architecture
from actors.planning.footprint import KEYS, SCORER_KEYS, Footprint, on_this_machine, places
from actors.planning.memory import (
    BLOCK,
    PIECE_BYTES,
    MicroBatch,
    checkpoint,
    generator_device,
    learner_host,
    learner_rank,
    loading,
    scorer_device,
)
from learner.config import LearnerConfig
from learner.model import logprobs, snapshot

ROOT = Path(__file__).parents[4]
SMALL = ModelShape(layers=2, hidden=64, intermediate=128, heads=4, kv_heads=4, head=16, vocabulary=1000)


def recipe(name: str, *overrides: str) -> Recipe:
    return load(ROOT / "recipes" / f"{name}.yaml", overrides)


def taught(teacher: str, *overrides: str) -> Recipe:
    return recipe("quickstart", f"distillation.teacher={teacher}", "learner.objective.name=opd", *overrides)


def test_the_formulas_know_the_learners_block() -> None:
    assert BLOCK == logprobs.BLOCK
    assert PIECE_BYTES == snapshot.PIECE_BYTES


def test_every_part_of_a_learner_has_a_key() -> None:
    batch = MicroBatch(prompt=10, completion=30, group_size=4, tokens=130)
    parts = set(learner_rank(SMALL, LearnerConfig(), batch)) | set(loading(SMALL, LearnerConfig(ranks=2)))
    assert parts | set(learner_host(SMALL, LearnerConfig(gpus=1))) | {"checkpoint"} <= set(KEYS)


def test_the_advice_names_the_key_of_the_largest_part() -> None:
    place = Footprint("learner, first rank", {"weights": 3e9, "activations": 6e9}, 8e9)
    assert not place.fits
    assert "takes 9 GB of 8 GB: lower learner.micro_batch_tokens" in place.advice
    assert Footprint("learner, first rank", place.parts, None).fits


def test_a_sequence_longer_than_a_micro_batch_is_not_made_shorter_by_smaller_ones() -> None:
    long = recipe("r1-qwen2.5-7b", "generators.sampling.max_tokens=32256")
    first, others, *_ = places(long, architecture(long.model), 20e9, None)
    for place in (first, others):
        assert place.whole == 32_768 and not place.fits
        assert "a sequence of 32768 tokens goes through whole" in place.advice
        assert "lower generators.sampling.max_tokens" in place.advice
    short = recipe("r1-qwen2.5-7b")
    assert not any(place.whole for place in places(short, architecture(short.model), 20e9, None))


def test_the_7b_recipe_fits_and_a_smaller_gpu_is_refused() -> None:
    refuse(recipe_memory(recipe("r1-qwen2.5-7b")))
    with pytest.raises(RecipeError, match=r"first rank takes .* of 24 GB: .*learner.*gpu_memory"):
        refuse(recipe_memory(recipe("r1-qwen2.5-7b", "learner.gpu_memory=24")))


def test_what_does_not_fit_is_told_of_the_offload_and_fits_with_it() -> None:
    two = "r1-qwen2.5-7b", "learner.ranks=2", "learner.gpu_memory=60"
    with pytest.raises(RecipeError, match=r"of 60 GB: .*learner\.optimizer\.offload: cpu"):
        refuse(recipe_memory(recipe(*two)))
    refuse(recipe_memory(recipe(*two, "learner.optimizer.offload=cpu")))


def test_the_host_of_a_gpu_has_columns_of_its_own_and_a_cpu_a_row() -> None:
    tree = recipe("r1-qwen2.5-7b")
    found = {place.name: place for place in places(tree, SMALL, gpu=80e9, core=None)}
    assert found["host, first rank"].parts["checkpoint"] == checkpoint(SMALL, tree.learner)
    assert found["host, first rank"].capacity is None
    assert "checkpoint" not in found["learner, first rank"].parts
    tree = recipe("quickstart")
    on_cpu = places(tree, SMALL, gpu=80e9, core=None)[0]
    assert on_cpu.parts["checkpoint"] == checkpoint(SMALL, tree.learner)
    assert "host, first rank" not in [place.name for place in places(tree, SMALL, gpu=80e9, core=None)]


def test_an_engine_without_room_for_a_cache_is_refused() -> None:
    tree = recipe("r1-qwen2.5-7b")
    device = generator_device(SMALL, tree.generators, 1e9)
    place = Footprint("generator", device, 1e9)
    assert not place.fits
    assert "tensor_parallel_size" in place.advice


def test_processes_of_one_machine_are_counted_together() -> None:
    tree = recipe("quickstart", "generators.count=3")
    found = places(tree, SMALL, gpu=80e9, core=None)
    here = on_this_machine(tree, found, 1e9)
    assert here is not None and not here.fits
    assert here.parts["generators"] == pytest.approx(3 * found[-1].total)
    assert here.parts["learner"] == pytest.approx(found[0].total)
    assert "generators.count" in here.advice
    assert on_this_machine(recipe("r1-qwen2.5-7b"), found, 1e9) is None


def test_the_ranks_that_send_are_counted_by_the_share_that_each_keeps() -> None:
    rows = ["learner, first rank", "learner, other senders", "learner, other ranks"]
    found, here = {}, {}
    for senders in (1, 2, 4):
        tree = recipe("quickstart", "cold_start=null", "learner.ranks=4", f"weights.senders={senders}")
        table = places(tree, SMALL, gpu=80e9, core=None)
        found[senders] = {place.name: place.parts["staging"] for place in table if place.name in rows}
        machine = on_this_machine(tree, table, 24e9)
        assert machine is not None
        here[senders] = machine.parts["learner"]
    assert [list(row) for row in found.values()] == [[rows[0], rows[2]], rows, rows[:2]]
    assert found[2][rows[0]] == found[2][rows[1]] and found[2][rows[2]] == found[1][rows[2]] == 0
    copy = {n: found[n][rows[0]] for n in found}
    assert copy[1] > copy[2] > copy[4] > 0
    assert here[1] >= here[2] >= here[4], "together they keep no more than one would"
    lora = "learner.lora={rank: 8, broadcast: adapters}"
    adapters = recipe("quickstart", "cold_start=null", "learner.ranks=2", "weights.senders=2", lora)
    assert [place.name for place in places(adapters, SMALL, gpu=80e9, core=None)][:2] == [rows[0], rows[2]]


def test_a_learner_on_a_cluster_is_not_held_to_this_machine() -> None:
    assert [place.name for place in recipe_memory(recipe("r1-qwen2.5-7b"))][-1] == "generator"
    assert memory_table(recipe_memory(recipe("quickstart"))).row_count > 8


def test_a_teacher_is_counted_by_its_own_size_and_a_fleet_that_cannot_hold_it_is_refused() -> None:
    tree = taught("Qwen/Qwen2.5-32B", "scorers.gpus=1", "scorers.batch_tokens=4096")
    (scorer,) = (place for place in places(tree, SMALL, gpu=80e9, core=None) if place.name == "scorer")
    assert scorer.parts["weights"] == pytest.approx(4 * 32.76e9, rel=1e-3)
    assert scorer.parts.keys() <= SCORER_KEYS.keys()
    with pytest.raises(RecipeError, match=r"scorer takes 13\d GB of 80 GB: take a smaller model to score by"):
        refuse(recipe_memory(tree))


def test_scorers_on_cpus_share_the_machine_with_the_others() -> None:
    tree = taught("not/there/yet", "scorers.count=3")
    found = places(tree, SMALL, gpu=80e9, core=None)
    here, without = (on_this_machine(tree, places_, 24e9) for places_ in (found, found[:-1]))
    assert here is not None and without is not None
    assert here.total - without.total == pytest.approx(3 * found[-1].total)
    unknown = scorer_device(SMALL, tree.scorers, "float32", tree.learner.logit_chunk_tokens)
    assert found[-1].parts == unknown, "a teacher that is not there yet is taken to be as large as the student"


def test_a_run_without_scorers_has_no_row_for_them() -> None:
    assert not [place for place in places(recipe("quickstart"), SMALL, gpu=80e9, core=None) if place.name == "scorer"]
