"""The checks of one machine, on this one."""

import socket
import time
from pathlib import Path

import pytest

from actors.config.loading import load
from actors.config.network import NetworkConfig
from actors.doctor import machine
from actors.doctor.findings import Fitness
from actors.errors import EngineError, RunError
from actors.transport.address import resolve

QUICKSTART = Path(__file__).parents[4] / "recipes" / "quickstart.yaml"
NODE = resolve(NetworkConfig(), in_cluster=False)


def test_the_sandbox_runs_a_program_here() -> None:
    assert machine.isolation(load(QUICKSTART, ["sandbox.unsafe=true"])).fitness is Fitness.OK


def test_a_port_that_is_taken_is_named_with_its_key() -> None:
    with socket.create_server((NODE.bind, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(RunError, match=rf"{port}.*network\.ports\.status|network\.ports\.status.*{port}"):
            machine.ports(load(QUICKSTART, [f"network.ports.status={port}"]), NODE)
    assert machine.ports(load(QUICKSTART), NODE).fitness is Fitness.OK


def test_packages_are_compared_with_the_lock() -> None:
    assert machine.versions({}).fitness is Fitness.OK
    found = machine.versions({"ray": "0.1"})
    assert found.fitness is Fitness.WARNING and "ray 2.60.0 (lock: 0.1)" in found.measured


def test_all_packages_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "PACKAGES", {"ray": (), "no-such-thing": (), "nor-this": ("nor-that",)})
    with pytest.raises(RunError, match="not installed: no-such-thing, nor-this;"):
        machine.versions({})


def test_what_the_engine_needs_of_the_machine_is_looked_for_where_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.engine(load(QUICKSTART)).measured == "libnuma.so.1 is there"

    def lacking() -> None:
        raise EngineError("vLLM on CPUs needs libnuma.so.1")

    monkeypatch.setattr(machine, "require_library", lacking)
    with pytest.raises(EngineError, match=r"libnuma\.so\.1"):
        machine.engine(load(QUICKSTART))
    other = load(QUICKSTART, ["generators.engine=transformers"])
    assert machine.engine(other).fitness is Fitness.OK


def test_a_clock_that_jumps_is_said() -> None:
    now = time.time(), time.monotonic()
    assert machine.clock(*now).fitness is Fitness.OK
    assert machine.clock(now[0] - 60, now[1]).fitness is Fitness.WARNING


def test_gpus_that_a_recipe_asks_for_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load(QUICKSTART)
    wants = recipe.model_copy(update={"learner": recipe.learner.model_copy(update={"gpus": 1.0})})
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert machine.gpus(recipe).fitness is Fitness.OK
    assert machine.gpus(wants).fitness is Fitness.FAILED
