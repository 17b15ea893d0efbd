"""The supervisor: names, replacements, and an end for everyone."""

from pathlib import Path

import pytest

from actors.config.loading import load
from actors.control.supervisor import Supervisor
from actors.errors import RunError
from actors.roles.role import Storage
from tests.unit.actors.control.fake_starter import FakeStarter

QUICKSTART = Path(__file__).parents[4] / "recipes" / "quickstart.yaml"


def supervisor(starter: FakeStarter, *overrides: str) -> Supervisor:
    recipe = load(QUICKSTART, ["controller.stop_seconds=0.1", *overrides])
    return Supervisor(recipe, Storage(Path("/runs/a"), Path("/models/b")), starter)


def test_every_process_is_told_its_own_name_and_seed_and_the_same_storage() -> None:
    starter = FakeStarter()
    watched = supervisor(starter, "seed=7")
    watched.replay = "tcp://127.0.0.1:1"
    for role, rank in (("generator", 0), ("generator", 0), ("learner", 0), ("learner", 1)):
        watched.start(role, rank)
    contexts = [p.context for p in starter.started]
    assert len({c.name for c in contexts}) == len({c.seed for c in contexts}) == 4
    assert [c.name for c in contexts[2:]] == ["learner", "learner-rank-1"]
    assert {c.storage.folder for c in contexts} == {Path("/runs/a")}
    assert {c.replay for c in contexts} == {"tcp://127.0.0.1:1"}


def test_a_process_reserves_what_its_role_asks_for() -> None:
    starter = FakeStarter()
    overrides = ("generators.gpus=1", "generators.vllm.tensor_parallel_size=2", "verifiers.cpus=0.25")
    watched = supervisor(starter, *overrides)
    generator, verifier, replay = (watched.start(role).process for role in ("generator", "verifier", "replay"))
    assert [p.resources.gpus for p in starter.started] == [2, 0, 0]
    assert [p.resources.cpus for p in starter.started] == [1, 0.25, 0]
    assert [generator, verifier, replay] == starter.started


@pytest.mark.parametrize("role", ["generator", "verifier"])
def test_a_dead_worker_is_replaced_under_a_new_name_until_the_restarts_are_used_up(role: str) -> None:
    starter = FakeStarter()
    watched = supervisor(starter, "controller.restarts=2")
    watched.start(role)
    for restart in (1, 2):
        starter.started[-1].die("its process was killed, or crashed")
        (exit_,) = watched.exited(1)
        assert exit_.process.name == starter.started[-1].context.name
        watched.replace(exit_)
        assert watched.restarts == restart
        assert starter.started[-2].killed, "a process whose work broke may live on, and hold what it reserved"
    assert len({p.context.name for p in starter.started}) == 3
    starter.started[-1].die("out of memory")
    (exit_,) = watched.exited(1)
    with pytest.raises(RunError, match=rf"{exit_.process.name} died \(out of memory\) after 2 restarts.*\.log"):
        watched.replace(exit_)


@pytest.mark.parametrize("role", ["learner", "replay"])
def test_the_death_of_what_holds_the_state_names_the_log_and_how_to_resume(role: str) -> None:
    starter = FakeStarter()
    watched = supervisor(starter)
    watched.start(role)
    starter.started[0].die("ValueError: boom")
    (exit_,) = watched.exited(1)
    with pytest.raises(RunError, match=rf"the {role} died: ValueError: boom; .*{role}\.log.*--resume /runs/a"):
        watched.replace(exit_)


def test_work_that_is_done_has_no_reason() -> None:
    starter = FakeStarter()
    watched = supervisor(starter)
    watched.start("learner")
    assert watched.exited(0.01) == []
    starter.started[0].die(None)
    (exit_,) = watched.exited(1)
    assert exit_.reason is None
    assert not watched.processes(), "what has exited is under supervision no more"


def test_a_process_that_does_not_come_up_is_named_with_its_log() -> None:
    watched = supervisor(FakeStarter(broken={"generator": "ImportError: no module named vllm"}))
    with pytest.raises(RunError, match=r"generator-1 did not start: ImportError.*generator-1\.log"):
        watched.wait_ready(watched.start("generator"))


def test_stopping_asks_first_and_kills_all_of_the_named_roles_and_no_others() -> None:
    starter = FakeStarter()
    watched = supervisor(starter)
    for role in ("generator", "verifier", "replay"):
        watched.start(role)
    starter.of("verifier")[0].obedient = False
    watched.stop("generator", "verifier")
    assert all(p.stopped and p.killed for p in starter.of("generator") + starter.of("verifier"))
    assert [p.role for p in watched.processes()] == ["replay"]
    assert not starter.of("replay")[0].stopped


def test_one_process_that_cannot_be_stopped_spares_no_other() -> None:
    def jam() -> None:
        raise OSError("no such actor")

    starter = FakeStarter()
    watched = supervisor(starter)
    for _ in range(3):
        watched.start("generator")
    starter.started[1].stop = jam  # type: ignore[method-assign]
    with pytest.raises(OSError, match="no such actor"):
        watched.stop("generator")
    assert [p.stopped for p in starter.started] == [True, False, True]
    assert all(p.killed for p in starter.started)
    assert not watched.processes()
