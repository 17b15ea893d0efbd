"""The supervisor: names, replacements, and an end for everyone."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from actors.control.starter import Ended, Process
from actors.control.supervisor import Exit, what_next
from actors.errors import RunError
from learner.extra import META
from tests.unit.actors.control.fake_starter import FakeStarter, die, started, supervisor


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
    watched.came_up(watched.start(role).name)
    for restart in (1, 2):
        starter.started[-1].die("its process was killed, or crashed")
        (exit_,) = watched.exited(1)
        assert exit_.process.name == starter.started[-1].context.name
        watched.came_up(started(watched.replace(exit_)).name)
        assert watched.restarts == restart
        assert starter.started[-2].killed, "a process whose work broke may live on, and hold what it reserved"
    assert len({p.context.name for p in starter.started}) == 3
    starter.started[-1].die("out of memory")
    (exit_,) = watched.exited(1)
    with pytest.raises(RunError, match=rf"{exit_.process.name} died \(out of memory\) after 2 restarts.*\.log"):
        watched.replace(exit_)


def test_a_dead_replay_starts_again_under_its_name_and_at_its_port() -> None:
    starter = FakeStarter()
    watched = supervisor(starter)
    watched.came_up(watched.start("replay").name)
    watched.replay = "tcp://10.0.0.1:5555"
    again = started(watched.replace(die(watched, starter, "killed")))
    context = starter.started[-1].context
    assert again.name == "replay" and context.replay == ""
    assert context.recipe.network.ports.replay == 5555
    assert starter.started[0].context.recipe.network.ports.replay == 0


def test_where_its_port_is_not_to_be_had_again_the_replay_takes_another() -> None:
    starter = FakeStarter()
    watched = supervisor(starter)
    watched.came_up(watched.start("replay").name)
    watched.replay = "tcp://10.0.0.1:5555"
    for reason in ("killed", "port 5555 of 127.0.0.1 is taken"):
        started(watched.replace(die(watched, starter, reason)))
    assert [p.context.recipe.network.ports.replay for p in starter.started] == [0, 5555, 0]


def test_of_the_replays_shards_the_one_that_died_starts_again() -> None:
    starter = FakeStarter()
    watched = supervisor(starter, "replay.shards=4", "network.ports.replay=5555")
    shards = watched.fill("replay", 4)
    assert [shard.name for shard in shards] == ["replay", "replay-shard-1", "replay-shard-2", "replay-shard-3"]
    assert [p.context.recipe.network.ports.replay for p in starter.started] == [5555, 5556, 5557, 5558]
    for shard in shards:
        assert watched.replay == "", "nobody is told of a part"
        watched.came_up(shard.name)
        watched.shards[shard.rank] = f"tcp://10.0.0.1:{6000 + shard.rank}"
    assert watched.start("verifier").process in starter.started
    assert starter.started[-1].context.replay == watched.replay
    again = started(watched.replace(die(watched, starter, "killed", number=2)))
    context = starter.started[-1].context
    assert (again.name, context.rank, context.replay) == ("replay-shard-2", 2, "")
    assert context.recipe.network.ports.replay == 6002
    assert watched.fill("replay", 4) == []


def test_a_shard_that_does_not_come_up_leaves_no_empty_place() -> None:
    starter = FakeStarter()
    watched = supervisor(starter, "replay.shards=2")
    first, second = watched.fill("replay", 2)
    for shard in (first, second):
        watched.came_up(shard.name)
    again = started(watched.replace(die(watched, starter, "killed", number=1)))
    assert again.rank == 1
    again = started(watched.replace(die(watched, starter, "its port is taken")))
    with pytest.raises(RunError, match="replay-shard-1 did not come up"):
        watched.replace(die(watched, starter, "its port is taken"))


def checkpoint(folder: Path, step: int) -> Path:
    place = folder / "checkpoints" / f"step-{step:06d}"
    place.mkdir(parents=True)
    (place / META).write_text('{"files": {}}')
    return place


def test_all_ranks_of_a_learner_start_again_from_the_newest_checkpoint_that_is_whole(tmp_path: Path) -> None:
    starter = FakeStarter()
    watched = supervisor(starter, "learner.ranks=2", "cold_start=null", folder=tmp_path)
    for process in watched.fill("learner", 2):
        watched.came_up(process.name)
    newest = checkpoint(tmp_path, 4)
    (tmp_path / "checkpoints" / "step-000008").mkdir()  # without what says that it is whole
    both: list[Exit] = []
    for rank in starter.started:
        rank.die("its process was killed, or crashed")
    while len(both) < 2:
        both += watched.exited(1)
    assert [p.name for p in watched.replace(both[0])] == ["learner", "learner-rank-1"]
    assert watched.replace(both[1]) == [], "both ranks are there again"
    assert [p.context.rank for p in starter.started] == [0, 1, 0, 1]
    assert {p.context.storage.checkpoint for p in starter.started[2:]} == {newest}
    assert watched.restarts == 1


def test_a_rank_that_is_left_is_ended_before_all_start_again() -> None:
    starter = FakeStarter()
    watched = supervisor(starter, "learner.ranks=2", "cold_start=null")
    for process in watched.fill("learner", 2):
        watched.came_up(process.name)
    watched.replace(die(watched, starter, "out of memory", number=1))
    assert starter.started[0].killed
    assert len(watched.processes()) == 2 and len(starter.started) == 4


def test_a_learner_that_refuses_to_go_on_ends_the_run_and_says_how_to_resume(tmp_path: Path) -> None:
    checkpoint(tmp_path, 0)
    starter = FakeStarter()
    watched = supervisor(starter, folder=tmp_path)
    watched.came_up(watched.start("learner").name)
    starter.started[0].die("5 steps in a row were not finite", refused=True)
    (exit_,) = watched.exited(1)
    with pytest.raises(RunError, match=rf"the learner gave up: 5 steps.*; .*learner\.log.*--resume {tmp_path}"):
        watched.replace(exit_)


@pytest.mark.parametrize("left", [[], ["step-000004.partial"], ["latest"]])
def test_only_a_run_with_a_checkpoint_is_said_to_be_resumable(tmp_path: Path, left: list[str]) -> None:
    for name in left:
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert "--resume" not in what_next(tmp_path) and f"leeway run {tmp_path}/recipe.yaml" in what_next(tmp_path)
    (tmp_path / "checkpoints" / "step-000020").mkdir(parents=True)
    assert f"leeway run --resume {tmp_path}" in what_next(tmp_path)


# ---------------------------------------------------------------- a controller that takes over


def test_what_lives_is_adopted_under_its_name_and_what_is_missing_is_started(tmp_path: Path) -> None:
    starter = FakeStarter()
    before = supervisor(starter, "generators.count=2", folder=tmp_path)
    before.replay = "tcp://10.0.0.1:5555"
    for role in ("replay", "learner", "generator", "generator"):
        before.start(role)
    (tmp_path / "logs").mkdir()
    for process in starter.started:
        (tmp_path / "logs" / f"{process.context.name}.log").touch()
    starter.started[-1].die("killed")
    after = supervisor(starter, "generators.count=2", folder=tmp_path)
    after.replay = before.replay
    assert [p.name for p in after.adopt()] == ["replay", "learner", "generator-3"]
    assert after.fill("replay", 1) == after.fill("learner", 1) == []
    (fresh,) = after.fill("generator", 2)
    assert fresh.name == "generator-5", "no name is given twice"
    after.tell_all()
    assert starter.started[0].told == [before.replay]


def test_what_is_adopted_was_up_and_names_of_those_who_wait_for_a_node_are_not_given_again(tmp_path: Path) -> None:
    starter = FakeStarter()
    before = supervisor(starter, folder=tmp_path)
    before.start("learner")
    before.start("generator")  # which has no log yet
    after = supervisor(starter, folder=tmp_path)
    after.adopt()
    assert after.start("generator").name == "generator-3"
    assert started(after.replace(after.end("learner", "its node died"))).role == "learner"


def test_generators_that_leave_are_replaced_however_often() -> None:
    starter = FakeStarter()
    watched = supervisor(starter, "controller.restarts=1")
    generator = watched.start("generator")
    for _ in range(4):
        watched.came_up(generator.name)
        generator = started(watched.replace(die(watched, starter, None)))
    assert watched.restarts == 0


def test_an_error_that_points_to_a_root_cause_is_followed_to_it(tmp_path: Path) -> None:
    starter = FakeStarter()
    watched = supervisor(starter, folder=tmp_path)
    log = tmp_path / "logs" / f"{watched.start('generator').name}.log"
    log.parent.mkdir()
    log.write_text("worker.py ERROR ValueError: blocks of 16\nRuntimeError: engine failed. See root cause above.\n")
    exit_ = die(watched, starter, "RuntimeError: engine failed. See root cause above.")
    assert exit_.reason == "ValueError: blocks of 16"


# ---------------------------------------------------------------- processes that hang


def test_a_process_that_hangs_is_killed_and_replaced() -> None:
    starter = FakeStarter()
    watched = supervisor(starter)
    name = watched.start("verifier").name
    watched.came_up(name)
    started(watched.replace(watched.end(name, "it was not heard of for 80 s")))
    assert starter.started[0].killed
    assert [p.name for p in watched.processes()] == ["verifier-2"]


@pytest.mark.parametrize("role", ["learner", "replay"])
def test_where_the_one_of_its_kind_hangs_it_is_killed_and_starts_again(role: str) -> None:
    starter = FakeStarter()
    watched = supervisor(starter)
    watched.came_up(watched.start(role).name)
    assert started(watched.replace(watched.end(role, "it was not heard of for 80 s"))).name == role
    assert starter.started[0].killed and len(starter.started) == 2


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


def test_nobody_is_waited_for_where_a_role_has_ended_already() -> None:
    class Patient(FakeStarter):
        def ended(self, processes: Sequence[Process], count: int, seconds: float) -> list[Ended]:
            raise AssertionError(f"waited {seconds:g} s for {count} of {len(processes)}")

    watched = supervisor(Patient())
    watched.start("generator")
    watched.stop("learner")


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
