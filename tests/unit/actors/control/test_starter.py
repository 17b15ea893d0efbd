"""An actor that sees another run folder is never built; work that is done once, whoever asks for it."""

import threading
from pathlib import Path

import pytest

from actors.config.loading import load
from actors.control.starter import Once, actor_class
from actors.deadline import until
from actors.errors import RunError
from actors.roles.role import CLASSES, RoleContext, Storage

QUICKSTART = Path(__file__).parents[4] / "recipes" / "quickstart.yaml"


@pytest.mark.parametrize("role", sorted(CLASSES))
def test_a_process_that_sees_another_run_folder_does_not_start_and_leaves_nothing_there(
    role: str, tmp_path: Path
) -> None:
    recipe = load(QUICKSTART, ["controller.startup_seconds=0.01"])
    context = RoleContext(recipe, f"{role}-1", Storage(tmp_path, mark="0123 node-a"))
    with pytest.raises(RunError, match=f"sees no run folder under {tmp_path}, where node-a"):
        actor_class(role)(context)  # type: ignore[call-arg]
    assert list(tmp_path.iterdir()) == []


def test_the_first_call_works_and_a_later_one_waits_for_its_end() -> None:
    begun, end, done = threading.Event(), threading.Event(), []

    def work() -> None:
        begun.set()
        assert end.wait(30)
        done.append("work")

    once = Once(work)
    first = threading.Thread(target=once)
    first.start()
    assert begun.wait(30)

    def wait_for_it() -> None:
        once()
        done.append("second")

    second = threading.Thread(target=wait_for_it)
    second.start()
    assert done == []
    end.set()
    for thread in (first, second):
        thread.join(30)
    assert done == ["work", "second"]


def test_who_waits_meets_the_error_that_the_work_ended_by() -> None:
    def work() -> None:
        raise ValueError("boom")

    once = Once(work)
    for _ in range(2):
        with pytest.raises(ValueError, match="boom"):
            once()


def test_of_those_who_wait_only_the_latest_does() -> None:
    begun, end = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        end.wait(60)

    once = Once(work)
    threads = [threading.Thread(target=once, daemon=True) for _ in range(3)]
    threads[0].start()
    assert begun.wait(30)
    threads[1].start()
    assert until(lambda: once._waiting == 1, 30)
    threads[2].start()
    threads[1].join(30)
    assert not threads[1].is_alive() and threads[2].is_alive()
    end.set()
    threads[2].join(30)
    assert not threads[2].is_alive()
