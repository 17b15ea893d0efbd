"""Two ranks send half of the weights each: they arrive bit for bit, and whoever dies breaks one update alone."""

import signal
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from actors.config.model import TinyModel
from actors.deadline import until
from actors.models import prepare
from benchmarks.faulty_engine import EngineProcess
from benchmarks.models import small_llama
from learner.config import LoraSettings
from tests.e2e.stripes import DEADLINE_SECONDS, PATIENCE, SENDER, StripedWorld, held, holds, logged
from tests.unit.learner.mixtures import written

pytestmark = pytest.mark.e2e

Begin = Callable[..., StripedWorld]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    worlds: list[StripedWorld] = []

    def start(*settings: str, model: Path | None = None, lora: LoraSettings | None = None) -> StripedWorld:
        made = model or small_llama(tmp_path / "model", 4096, hidden_size=128, num_hidden_layers=2)
        worlds.append(StripedWorld(tmp_path, made, *settings, lora=lora))
        return worlds[-1]

    yield start
    for world in worlds:
        world.close()


def test_every_version_arrives_bit_for_bit_half_from_each_rank(begin: Begin) -> None:
    world = begin("weights.delta=true")
    assert world.senders == [0, 1]
    first = world.generator("generator-1")
    for version in range(3):
        halves = world.step()
        world.publish()
        assert holds(first, version, halves)
        assert world.arrived()
    sizes = [len(half) for half in halves]
    assert min(sizes) > 0 and not halves[0].keys() & halves[1].keys()
    assert held(first)[2] == [False, True, True]
    second = world.generator("generator-2")
    assert holds(second, 2, halves), "who comes late gets the newest version, of both"
    assert until(lambda: len(world.synced_bytes()) == 4, PATIENCE), "it is told once all have answered"
    whole, *_, late = world.synced_bytes()
    assert whole == late > 4 * 4096 * 128 * 2, "all stripes are counted"


@pytest.mark.parametrize("mixture", [False, True])
def test_merged_adapters_arrive_as_from_one_sender(begin: Begin, tmp_path: Path, mixture: bool) -> None:
    """Frozen weights but for adapters, of linear layers and of an embedding, which are merged on each rank; and beside
    experts, whose names are converted."""
    targets = ["q_proj", "v_proj"] if mixture else ["embed_tokens", "q_proj", "down_proj"]
    lora = LoraSettings(rank=4, broadcast="merged", targets=targets)
    world = begin("weights.delta=true", model=written(tmp_path / "mixture", "qwen3") if mixture else None, lora=lora)
    generator = world.generator("generator-1")
    versions = []
    for version in range(3):
        halves = world.step()
        versions.append(world.from_one_sender())
        assert all(halves) and not halves[0].keys() & halves[1].keys(), "both send"
        assert halves[0] | halves[1] == versions[-1]
        world.publish()
        assert holds(generator, version, halves)
    assert held(generator)[2] == [False, True, True]
    adapted = {name for name in versions[0] if name.endswith(tuple(f".{target}.weight" for target in targets))}
    for before, after in pairwise(versions):
        assert {name for name in after if after[name] != before[name]} == adapted


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_a_sender_that_stops_in_an_update_breaks_that_one_alone_and_is_named(begin: Begin, number: int) -> None:
    world = begin()
    generators = [world.generator(f"generator-{n}") for n in range(2)]
    first = world.step()
    world.publish()
    assert all(holds(generator, 0, first) for generator in generators)
    second = world.step()
    world.publish(number)
    assert until(lambda: world.ranks[1].process.exitcode is not None or world.ranks[1].stands, PATIENCE)
    assert logged(world, f"{SENDER} did not take part in the update")
    assert logged(world, f"nobody gets any before {SENDER} is there")
    assert not world.arrived(1.0)
    assert all(holds(generator, 0, first) for generator in generators), "they hold what they had, and answer"
    if number == signal.SIGSTOP:
        world.ranks[1].signal(signal.SIGCONT)
        assert all(holds(generator, 1, second) for generator in generators)
        assert world.arrived()
    world.ranks[0].pipe.send(("end",))
    world.ranks[0].process.join(PATIENCE)
    assert world.ranks[0].process.exitcode == 0, "the publisher ends, and waits for nobody"


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_a_generator_that_stops_in_an_update_costs_the_other_nothing(begin: Begin, number: int) -> None:
    world = begin()
    generators = [world.generator(f"generator-{n}") for n in range(2)]
    halves = world.step()
    world.publish()
    assert all(holds(generator, 0, halves) for generator in generators)
    for version in (1, 2):
        halves = world.step()
        if version == 1:
            assert generators[1].ask("harm", number) == "armed"
        world.publish()
        assert holds(generators[0], version, halves)
    assert until(lambda: generators[1].process.exitcode is not None or generators[1].stands, PATIENCE)
    assert logged(world, "a new epoch starts without")
    if number == signal.SIGSTOP:
        generators[1].signal(signal.SIGCONT)
    else:
        generators[1] = world.generator("generator-9")
    assert holds(generators[1], 2, halves)
    assert world.arrived()


def test_a_real_engine_takes_both_halves(begin: Begin, tmp_path: Path) -> None:
    model = prepare(TinyModel(kind="tiny"), tmp_path / "models", 0)
    engine = EngineProcess(model, "generator-1", DEADLINE_SECONDS)
    try:
        world = begin(model=model)
        assert until(lambda: engine.take() or engine.up, PATIENCE)
        world.beat_for("generator-1")
        engine.pipe.send(("subscribe", world.endpoint))
        for version in range(2):
            halves = world.step()
            world.publish()
            assert world.arrived()
            engine.heard.pop("inspected", None)
            engine.pipe.send(("inspect",))
            assert until(lambda: engine.take() and "inspected" in engine.heard, PATIENCE)
            assert engine.heard["inspected"] == {"digests": halves[0] | halves[1], "versions": [version]}
    finally:
        engine.signal(signal.SIGKILL)
        engine.process.join(10)
