"""The supervisor: names, replacements, and an end for everyone."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from actors.config.loading import load
from actors.control.supervisor import Exit, Supervised, Supervisor, what_next
from actors.errors import RunError
from actors.roles.role import Storage
from tests.unit.actors.control.fake_starter import FakeStarter

QUICKSTART = Path(__file__).parents[4] / "recipes" / "quickstart.yaml"


def supervisor(
    starter: FakeStarter, *overrides: str, folder: Path = Path("/runs/a"), clock: Callable[[], float] = time.monotonic
) -> Supervisor:
    recipe = load(QUICKSTART, ["controller.stop_seconds=0.1", *overrides])
    return Supervisor(recipe, Storage(folder, Path("/models/b")), starter, clock)


def started(process: Supervised | None) -> Supervised:
    assert process is not None, "its place stays empty"
    return process


def die(watched: Supervisor, starter: FakeStarter, reason: str, number: int = -1) -> Exit:
    """Let the process that was started as number so and so die; how the supervisor sees it."""
    starter.started[number].die(reason)
    (exit_,) = watched.exited(1)
    return exit_


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


@pytest.mark.parametrize("role", ["learner", "replay"])
def test_the_death_of_what_holds_the_state_names_the_log_and_how_to_resume(role: str, tmp_path: Path) -> None:
    starter, folder = FakeStarter(), tmp_path
    (folder / "checkpoints" / "step-000000").mkdir(parents=True)
    watched = supervisor(starter, folder=folder)
    watched.start(role)
    starter.started[0].die("ValueError: boom")
    (exit_,) = watched.exited(1)
    with pytest.raises(RunError, match=rf"the {role} died: ValueError: boom; .*{role}\.log.*--resume {folder}"):
        watched.replace(exit_)


@pytest.mark.parametrize("left", [[], ["step-000004.partial"], ["latest"]])
def test_only_a_run_with_a_checkpoint_is_said_to_be_resumable(tmp_path: Path, left: list[str]) -> None:
    for name in left:
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert "--resume" not in what_next(tmp_path) and f"leeway run {tmp_path}/recipe.yaml" in what_next(tmp_path)
    (tmp_path / "checkpoints" / "step-000020").mkdir(parents=True)
    assert f"leeway run --resume {tmp_path}" in what_next(tmp_path)


def test_restarts_count_within_a_window_of_time() -> None:
    """A run that takes weeks may lose a machine now and then."""
    starter, now = FakeStarter(), [0.0]
    limits = ("controller.restarts=2", "controller.restart_window_seconds=100")
    watched = supervisor(starter, *limits, clock=lambda: now[0])
    watched.came_up(watched.start("verifier").name)
    for day in range(6):
        now[0] = 60.0 * day
        watched.came_up(started(watched.replace(die(watched, starter, "preempted"))).name)
    now[0] += 1
    with pytest.raises(RunError, match=r"preempted.* after 2 restarts within 100 s.*controller\.restarts"):
        watched.replace(die(watched, starter, "preempted"))
    assert watched.restarts == 6


# ---------------------------------------------------------------- processes that never come up


@pytest.mark.parametrize("count", [1, 3])
def test_a_first_start_that_fails_ends_the_run_at_once(count: int) -> None:
    starter = FakeStarter()
    watched = supervisor(starter)
    for _ in range(count):
        watched.start("generator")
    with pytest.raises(
        RunError, match=r"generator-\d did not come up: ValueError: block_size; see .*generator-\d\.log"
    ):
        watched.replace(die(watched, starter, "ValueError: block_size"))
    assert len(starter.started) == count


def test_a_replacement_that_fails_to_start_is_tried_once_more_and_then_the_run_ends() -> None:
    starter = FakeStarter()
    watched = supervisor(starter)
    watched.came_up(watched.start("generator").name)
    for _ in range(2):  # the one that was up, and the first that did not come up
        started(watched.replace(die(watched, starter, "CUDA out of memory")))
    with pytest.raises(RunError, match="generator-3 did not come up: CUDA out of memory"):
        watched.replace(die(watched, starter, "CUDA out of memory"))


def test_where_others_are_up_the_place_of_one_that_does_not_start_stays_empty() -> None:
    starter = FakeStarter()
    watched = supervisor(starter)
    for _ in range(2):
        watched.came_up(watched.start("generator").name)
    for _ in range(2):
        started(watched.replace(die(watched, starter, "no such device")))
    assert watched.replace(die(watched, starter, "no such device")) is None
    assert [p.name for p in watched.processes()] == ["generator-1"]
    assert watched.restarts == 2, "what cannot come up burns no restarts"
    # the last one that is up is replaced as ever
    watched.came_up(started(watched.replace(die(watched, starter, "preempted", number=0))).name)
    assert len(watched.processes()) == 1


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


@pytest.mark.parametrize(
    ("role", "rank", "name"), [("learner", 0, "learner"), ("learner", 1, "learner-rank-1"), ("replay", 0, "replay")]
)
def test_where_what_holds_the_state_hangs_the_run_ends_and_names_it(role: str, rank: int, name: str) -> None:
    starter = FakeStarter()
    watched = supervisor(starter)
    watched.start(role, rank)
    with pytest.raises(RunError, match=f"the {name} hangs: it was not heard of for 80 s"):
        watched.replace(watched.end(name, "it was not heard of for 80 s"))
    assert starter.started[0].killed


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
