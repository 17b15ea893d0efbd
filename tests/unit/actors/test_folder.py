"""Run folders: made, kept for one process, and opened again as they are meant."""

import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from actors.config.loading import load
from actors.config.recipe import Recipe
from actors.errors import RecipeError
from actors.events import Phase
from actors.folder import from_mirror, locked, new_folder, reopen
from actors.storage.mirror import Mirror
from actors.storage.uris import Uri
from learner.extra import META, checkpoint_name
from tests.unit.actors.report.example_events import record

RECIPE = """\
name: sums
steps: 60
output: out
model: {kind: tiny}
tasks: {sources: [{source: addition}], template: raw, held_out: 8, max_prompt_tokens: 64}
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return load(Path("recipe.yaml"))


@pytest.fixture
def folder(recipe: Recipe) -> Path:
    """A run folder with checkpoints of the steps 20 and 40."""
    made = new_folder(recipe)
    for step in (20, 40):
        checkpoint(made, step)
    return made


def checkpoint(folder: Path, step: int, **files: int) -> Path:
    """Something that passes for a checkpoint; `files` are names, and the sizes that they should have (bytes)."""
    made = folder / "checkpoints" / checkpoint_name(step)
    made.mkdir(parents=True)
    (made / META).write_text(json.dumps({"version": step, "files": {"shard": 3, **files}}))
    (made / "shard").write_bytes(b"abc")
    return made


def left(folder: Path) -> set[str]:
    return {path.name for path in (folder / "checkpoints").iterdir()}


# ---------------------------------------------------------------- new runs


def test_runs_that_begin_in_the_same_second_have_folders_of_their_own(recipe: Recipe) -> None:
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: new_folder(recipe), range(8)))
    assert len(set(made)) == 8
    assert all(load(folder / "recipe.yaml") == recipe for folder in made)


@contextmanager
def full_disk() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_folder_without_room_is_one_line_and_nothing_stays(recipe: Recipe) -> None:
    with full_disk(), pytest.raises(RecipeError, match=r"output: no run folder can be made in .*too large"):
        new_folder(recipe)
    assert list(recipe.output.iterdir()) == []


def test_an_override_that_cannot_be_kept_is_refused(folder: Path) -> None:
    before = (folder / "recipe.yaml").read_text()
    with full_disk(), pytest.raises(RecipeError, match="cannot be written"):
        reopen(folder, ["steps=80"])
    assert (folder / "recipe.yaml").read_text() == before


# ---------------------------------------------------------------- the lock

HOLD = """\
import sys
from pathlib import Path
from actors.folder import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the folder's lock."""
    arguments = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()


def test_a_second_process_is_told_who_runs_it(folder: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(RecipeError, match=rf"this run is alive \(process {holder.pid} on .+\); end it"), locked(folder):
        pass


def test_a_holder_that_was_killed_holds_nothing(folder: Path, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait(10)
    with locked(folder), pytest.raises(RecipeError, match=f"process {os.getpid()} on"), locked(folder):
        pass
    with locked(folder):
        pass


def test_only_a_run_folder_is_locked(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="not a run folder"), locked(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- which checkpoint


def test_the_newest_checkpoint_is_that_of_the_highest_step(folder: Path) -> None:
    for step in (999_999, 1_000_000):
        checkpoint(folder, step)
    (folder / "checkpoints" / "step-2000000-good").mkdir()
    found = reopen(folder, ["steps=3000000"])
    assert (found.step, found.checkpoint.name) == (1_000_000, "step-1000000")
    assert "step-2000000-good" in left(folder)


def test_what_a_crash_left_goes_and_what_it_moved_aside_comes_back(folder: Path) -> None:
    checkpoint(folder, 50).rename(folder / "checkpoints" / ".step-000050.old-12345678")
    checkpoint(folder, 60).rename(folder / "checkpoints" / ".step-000060.tmp")
    (folder / ".model.tmp").mkdir()
    assert reopen(folder, []).step == 50
    assert left(folder) == {"step-000020", "step-000040", "step-000050"}
    assert not (folder / ".model.tmp").exists()


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(folder: Path) -> None:
    (folder / "checkpoints" / "step-000040" / "shard").write_bytes(b"a")
    found = reopen(folder, [])
    assert found.step == 20
    (note,) = found.notes
    assert "step-000040 is damaged (shard has 1 bytes of 3)" in note and "resumes from step 20" in note
    assert {name.partition("-damaged")[0] for name in left(folder)} == {"step-000020", "step-000040"}
    assert reopen(folder, []).notes == [], "it is said once, and is none any more"


def test_a_shard_of_another_step_is_named_and_the_checkpoint_before_is_used(folder: Path) -> None:
    """It has the name and the size of the one that it stands for."""
    for step, content in ((20, b"abc"), (40, b"xyz")):
        place = folder / "checkpoints" / checkpoint_name(step)
        meta = {**json.loads((place / META).read_text()), "sha256": {"shard": hashlib.sha256(content).hexdigest()}}
        (place / META).write_text(json.dumps(meta))
        (place / "shard").write_bytes(content)
    assert reopen(folder, []).step == 40
    shutil.copy(folder / "checkpoints" / "step-000020" / "shard", folder / "checkpoints" / "step-000040" / "shard")
    found = reopen(folder, [])
    assert found.step == 20
    assert "step-000040 is damaged (shard holds other bytes than were written)" in found.notes[0]


def test_where_all_are_damaged_nothing_is_touched(folder: Path) -> None:
    for name in left(folder):
        (folder / "checkpoints" / name / "shard").unlink()
    with pytest.raises(
        RecipeError, match=r"every checkpoint is damaged: step-000040 \(shard is missing\), step-000020"
    ):
        reopen(folder, [])
    assert left(folder) == {"step-000020", "step-000040"}


def test_without_a_checkpoint_one_starts_over(recipe: Recipe) -> None:
    with pytest.raises(RecipeError, match="there is no checkpoint yet; start over"):
        reopen(new_folder(recipe), [])


# ---------------------------------------------------------------- what is told at a resume


def test_overrides_are_kept_with_what_held_before(folder: Path) -> None:
    original = (folder / "recipe.yaml").read_text()
    found = reopen(folder, ["learner.optimizer.learning_rate=1e-7", "steps=80"])
    assert (found.recipe.learner.optimizer.learning_rate, found.recipe.steps) == (1e-7, 80)
    assert "learner.optimizer.learning_rate: 1e-06 -> 1e-07" in found.notes
    assert "recipe-until-000040.yaml" in found.notes[-1]
    assert (folder / "recipe-until-000040.yaml").read_text() == original
    again = reopen(folder, [])
    assert again.recipe == found.recipe and again.notes == []
    reopen(folder, ["steps=90"])
    assert (folder / "recipe-until-000040.yaml").read_text() == original, "what held until then has not changed"
    checkpoint(folder, 50)
    reopen(folder, ["steps=100"])
    assert "steps: 90" in (folder / "recipe-until-000050.yaml").read_text()


def test_what_is_refused_changes_nothing(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for overrides, says in (
        (["seed=3"], "a run keeps what it began with: seed: "),
        (["steps=90", "tasks.held_out=4"], "tasks.held_out: "),
        (["learner.optimizer.learning_rate=fast"], "learning_rate: must be"),
        (["steps=39"], "nothing is left to do: its newest checkpoint is of step 40, and steps is 39"),
        (["generators.sampling.max_tokens=500"], "generators.sampling.max_tokens is 500"),
    ):
        with pytest.raises(RecipeError, match=says):
            reopen(folder, overrides)
        assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_run_that_has_finished_has_nothing_left_to_do(folder: Path) -> None:
    record(folder, [Phase(name="evaluation")])
    assert reopen(folder, ["steps=40"]).step == 40, "it ended before its last evaluation"
    record(folder, [Phase(name="finished")], resumed_at=40)
    with pytest.raises(RecipeError, match=r"nothing is left to do: .* give more, as in -s steps=80"):
        reopen(folder, [])
    assert reopen(folder, ["steps=41"]).recipe.steps == 41


@pytest.fixture
def with_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run whose tasks are in a file that its recipe names by a relative path."""
    monkeypatch.chdir(tmp_path)
    lines = "".join(json.dumps({"prompt": f"{n}+1=", "answer": n + 1}) + "\n" for n in range(40))
    (tmp_path / "data.jsonl").write_text(lines)
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("source: addition", "source: jsonl, path: data.jsonl"))
    folder = new_folder(load(Path("recipe.yaml")))
    checkpoint(folder, 20)
    return folder


def test_a_run_is_resumed_from_any_directory(with_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    found = reopen(with_data, ["learner.inspection_folder=somewhere"])
    assert str(tmp_path / "data.jsonl") in (with_data / "recipe.yaml").read_text()
    assert found.recipe.learner.inspection_folder == "/somewhere", "what is told now is relative to where it is told"


def test_data_that_have_changed_are_refused_and_data_that_have_moved_are_not(with_data: Path, tmp_path: Path) -> None:
    text = (tmp_path / "data.jsonl").read_text()
    with (tmp_path / "data.jsonl").open("a") as file:
        file.write('{"prompt": "1+0=", "answer": 1}\n')
    with pytest.raises(
        RecipeError, match=r"tasks\.sources\.0\.path: the file holds other lines than when the run began"
    ):
        reopen(with_data, [])
    (tmp_path / "data.jsonl").unlink()
    (tmp_path / "elsewhere.jsonl").write_text(text)
    recipe = (with_data / "recipe.yaml").read_text()
    (with_data / "recipe.yaml").write_text(recipe.replace("data.jsonl", "elsewhere.jsonl"))
    assert reopen(with_data, []).step == 20


@pytest.fixture
def mirrored(folder: Path, tmp_path: Path) -> Uri:
    """The mirror of a run with checkpoints of the steps 20 and 40."""
    uri = Uri(f"file://{tmp_path}/mirror/{folder.name}")
    mirror = Mirror(uri)
    mirror.put_record(folder)
    for path in sorted((folder / "checkpoints").iterdir()):
        mirror.put_checkpoint(path, keep_last=3)
    return uri


def test_a_machine_without_the_run_folder_takes_it_from_the_mirror(folder: Path, mirrored: Uri) -> None:
    shutil.rmtree(folder.parent)
    made, (note,) = from_mirror(Uri(f"{mirrored}/"))
    assert made == folder and "step-000040" in note
    assert left(folder) == {"step-000040"}
    with locked(folder):
        assert reopen(folder, []).step == 40


def test_a_run_folder_that_is_here_is_kept_and_one_that_is_behind_is_not_mixed(folder: Path, mirrored: Uri) -> None:
    checkpoint(folder, 60)
    assert from_mirror(mirrored)[0] == folder
    assert left(folder) == {"step-000020", "step-000040", "step-000060"}
    for step in (40, 60):
        shutil.rmtree(folder / "checkpoints" / checkpoint_name(step))
    with pytest.raises(RecipeError, match="is here, and the mirror has a newer checkpoint, of step 40"):
        from_mirror(mirrored)
    assert left(folder) == {"step-000020"}


def test_a_mirror_of_which_nothing_can_be_used_leaves_no_folder(folder: Path, mirrored: Uri) -> None:
    shutil.rmtree(folder)
    shutil.rmtree(Path(mirrored.removeprefix("file://")) / "checkpoints")
    with pytest.raises(RecipeError, match="holds no checkpoint that is whole"):
        from_mirror(mirrored)
    assert list(folder.parent.iterdir()) == []
    with pytest.raises(RecipeError, match=r"recipe\.yaml"):
        from_mirror(Uri(f"{mirrored}-absent"))
