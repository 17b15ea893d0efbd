"""The command line's exit codes and messages."""

import importlib.metadata
import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from actors import cli
from actors.commands import checkout
from actors.config.loading import load
from actors.errors import ERRORS, LeewayError, PeerTimeoutError, RecipeError, RunError, exit_code
from actors.folder import locked, new_folder
from learner.errors import BatchError, ModelError
from learner.extra import META
from sandbox.errors import IsolationError, UnknownVerifierError

ROOT = Path(__file__).parents[3]
RECIPE = str(ROOT / "recipes" / "quickstart.yaml")


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["leeway", *arguments])
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert len(captured.err.strip().splitlines()) == 1
    assert "Traceback" not in captured.err
    assert captured.out == ""
    return captured.err


def test_check_prints_the_resolved_tree(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "check", RECIPE, "-s", "replay.max_staleness=2") == 0
    captured = capsys.readouterr()
    assert "max_staleness: 2" in captured.out
    assert re.search(r"moments .*\d", captured.err) and "this machine" in captured.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["check", RECIPE, "-s", "learner.speed=1"], "learner.speed"),
        (["check", RECIPE, "-s", "learner.speed"], "write key=value"),
        (["check", RECIPE, "-s", "rewards.language=xx"], f"{RECIPE}: rewards.language"),
        (
            ["check", RECIPE, "-s", "generators.vllm.engine_args={speculative_config: {method: eagle}}"],
            "generators.vllm.engine_args.speculative_config.method: must be ngram",
        ),
        (["check", ""], "is a directory; name a recipe"),
        (["check", RECIPE, "-s", "cold_start.traces=nowhere.jsonl"], "nowhere.jsonl"),
        (["check", RECIPE, "-s", "generators.vllm.kv_cache_gib=1000000"], "generators.count or generators.vllm"),
        (["check"], "recipe"),
        (["check", "--fast", RECIPE], "--fast"),
        (["run", "no-such-recipe.yaml"], "no-such-recipe.yaml"),
        (["run", RECIPE, "-s", "cold_start.traces=nowhere.jsonl"], "nowhere.jsonl"),
        (["run", RECIPE, "-s", "output=/dev/null/runs"], "output"),
        (["run"], "name a recipe"),
        (["run", RECIPE, "--resume", "runs"], "not both"),
        (["run", "--resume", "recipes"], "not a run folder"),
        (["run", "--resume", "no-such-folder"], "not a run folder"),
        (["run", "--resume", RECIPE], "not a run folder"),
        (["score"], "file"),
        (["score", "no-such-file.jsonl"], "no-such-file.jsonl"),
        (["sandbox", "fly"], "fly"),
        (["sandbox", "serve", "--port", "many"], "port"),
        (["sandbox", "serve", "-w", "0"], "'--workers' / '-w': must be"),
        (["bench", "fly"], "fly"),
        (["bench", "math", "--json", "/no/such/folder/figures.json"], "figures.json"),
        (["fly"], "fly"),
        (["--fast"], "--fast"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(ROOT)
    assert call(monkeypatch, *arguments) == 2
    assert says in one_line(capsys)


@pytest.mark.parametrize("arguments", [[], ["sandbox"], ["bench"]])
def test_without_a_command_the_help_is_all_that_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert call(monkeypatch, *arguments) == 2
    captured = capsys.readouterr()
    assert "Usage" in captured.out + captured.err
    assert not (captured.out + captured.err).strip().endswith(":")


@pytest.mark.parametrize("command", ["check", "run"])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "directory"),
        (b"", "a recipe is a mapping"),
        (b"name: cafe\nmodel: caf\xe9", "line 2 is not UTF-8"),
        (b"name: [", "not YAML"),
        (b"name: a\nname: b", "name stands twice, in lines 1 and 2"),
        (b"name: a", "is missing"),
        (b"- a", "a recipe is a mapping"),
    ],
)
def test_a_file_that_is_no_recipe_is_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    command: str,
    content: bytes | None,
    says: str,
) -> None:
    path = tmp_path / "recipe.yaml"
    path.mkdir() if content is None else path.write_bytes(content)
    assert call(monkeypatch, command, str(path)) == 2
    assert says in one_line(capsys)


def test_nothing_is_written_for_a_recipe_that_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    output = tmp_path / "runs"
    assert call(monkeypatch, "run", RECIPE, "-s", f"output={output}", "-s", "rewards.language=xx") == 2
    assert not output.exists()


def test_a_run_that_is_alive_is_not_resumed_beside_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "recipe.yaml").write_text(Path(RECIPE).read_text())
    with locked(tmp_path):
        assert call(monkeypatch, "run", "--resume", str(tmp_path), "-s", "steps=9") == 2
        assert "this run is alive" in one_line(capsys)
    assert call(monkeypatch, "run", "--resume", str(tmp_path)) == 2
    assert "there is no checkpoint yet" in one_line(capsys)


def test_a_resume_that_the_machine_refuses_leaves_the_run_folder_as_it_was(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = new_folder(load(Path(RECIPE), [f"output={tmp_path}"]))
    half_written = folder / "checkpoints" / ".step-000003.tmp"
    for made in (half_written, folder / "checkpoints" / "step-000002"):
        made.mkdir(parents=True)
        (made / META).write_text("{}")
    before = (folder / "recipe.yaml").read_text()

    def refuse(_: object) -> None:
        raise RecipeError("ray.address: there is no cluster")

    monkeypatch.setattr("actors.run.surroundings", refuse)
    assert call(monkeypatch, "run", "--resume", str(folder), "-s", "ray.address=auto") == 2
    assert "there is no cluster" in one_line(capsys)
    assert (folder / "recipe.yaml").read_text() == before
    assert half_written.is_dir() and not list(folder.glob("recipe-until-*"))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (LeewayError("it\nfailed"), 1),
        (RunError("it failed"), 1),
        (PeerTimeoutError("it failed"), 1),
        (RecipeError("it failed"), 2),
        (BatchError("it failed"), 1),
        (ModelError("it failed"), 2),
        (IsolationError("it failed"), 1),
        (UnknownVerifierError("it failed"), 2),
    ],
)
def test_every_error_of_ours_is_one_line_and_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, code: int
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("actors.config.loading.load", fail)
    assert isinstance(error, ERRORS)
    assert exit_code(error) == code
    assert call(monkeypatch, "check", RECIPE) == code
    assert one_line(capsys) == "leeway: it failed\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize(("checkpoints", "says"), [(["step-000002"], "--resume"), ([], "recipe.yaml")])
def test_an_interrupt_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    number: signal.Signals,
    code: int,
    checkpoints: list[str],
    says: str,
) -> None:
    def interrupted(_: object, folder: Path, *__: object) -> None:
        for name in checkpoints:
            (folder / "checkpoints" / name).mkdir(parents=True)
        signal.raise_signal(number)

    monkeypatch.setattr("actors.run.show", interrupted)
    before = signal.signal(number, signal.SIG_DFL)  # the tests may run under nohup, which has it ignored
    try:
        assert call(monkeypatch, "run", RECIPE, "-s", f"output={tmp_path}") == code
    finally:
        signal.signal(number, before)
    assert says in one_line(capsys)


def test_before_a_run_began_an_interrupt_ends_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("actors.config.loading.load", lambda *_: signal.raise_signal(signal.SIGTERM))
    assert call(monkeypatch, "run", RECIPE) == 143
    assert capsys.readouterr().err == ""


def test_the_version_is_that_of_the_project(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

    def absent(_: str) -> str:
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(importlib.metadata, "version", absent)
    assert call(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"leeway {wanted}\n"


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["check", "--help"], ["check", RECIPE]])
def test_what_is_printed_into_a_pipe_fits_80_columns(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "actors.cli", *arguments]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0
    shown = ended.stdout if "--help" in arguments else ended.stderr
    assert max(map(len, shown.splitlines())) <= 80
    assert "\x1b" not in ended.stdout + ended.stderr
    assert ended.stderr[:6] == ("" if "--help" in arguments else "memory"), "the configuration alone goes into a file"


def test_of_a_pipeline_the_memory_of_the_stage_that_takes_most_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    larger = "-sstages.reasoning.recipe.learner.micro_batch_tokens=32768"
    assert call(monkeypatch, "check", str(ROOT / "recipes" / "r1-mini.yaml"), larger) == 0
    said = capsys.readouterr().err
    assert said.count("learner, first rank") == 1 and "memory of reasoning, the stage that takes most" in said


@pytest.mark.parametrize(
    ("streams", "code", "says"),
    [
        ("| true", (0, 1), ""),
        ("> /dev/full", (1,), "leeway: standard output cannot be written (No space left on device)\n"),
        (">&-", (0,), ""),
        (">&- 2>&-", (0,), ""),
        ("> /dev/null 2> /dev/full", (0,), ""),
    ],
)
def test_streams_that_cannot_be_written(streams: str, code: tuple[int, ...], says: str) -> None:
    command = f"{sys.executable} -m actors.cli check {RECIPE} {streams}; exit ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ended.returncode in code
    assert ended.stderr.endswith(says) and "leeway:" not in ended.stderr.removesuffix(says)


def test_help_that_cannot_be_written_is_one_line() -> None:
    command = f"{sys.executable} -m actors.cli --help > /dev/full"
    ended = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1
    assert ended.stderr == "leeway: standard output cannot be written (No space left on device)\n"


@pytest.mark.parametrize("streams", [">&-", "2> /dev/full", "2>&-", "| true"])
def test_wrong_input_is_wrong_whatever_can_be_written(streams: str) -> None:
    command = f"{sys.executable} -m actors.cli check no-such-recipe.yaml {streams}; exit ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("width", ["0", "1", "40"])
def test_help_and_errors_in_a_narrow_or_ascii_terminal(width: str) -> None:
    environment = {**os.environ, "COLUMNS": width, "PYTHONIOENCODING": "ascii", "TERM": "dumb", "NO_COLOR": "1"}
    for arguments, code in ((["--help"], 0), (["check", "-s", "rewards.language=\u4e2d", RECIPE], 2)):
        command = [sys.executable, "-m", "actors.cli", *arguments]
        ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=120)
        assert ended.returncode == code
        assert b"Traceback" not in ended.stderr
        assert (ended.stdout + ended.stderr).isascii()


def test_a_current_directory_that_is_gone_is_one_line(tmp_path: Path) -> None:
    command = f"mkdir {tmp_path}/gone && cd {tmp_path}/gone && rmdir ../gone && {sys.executable} -m actors.cli check x"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1
    assert ended.stderr == "leeway: the current directory is gone, or cannot be read; change to another\n"


def test_benchmarks_are_forwarded_to_in_a_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-m", "actors.cli", "bench", "math", "--help"]
    environment = {"PYTHONPATH": str(ROOT), "COLUMNS": "80"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "python -m benchmarks math" in ended.stdout


@pytest.mark.parametrize("command", [("bench", "math"), ("deploy", "check")])
def test_elsewhere_it_is_said_where_benchmarks_and_manifests_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, command: tuple[str, str]
) -> None:
    monkeypatch.setattr(checkout, "_ROOT", tmp_path)
    assert call(monkeypatch, *command) == 2
    assert "part of a checkout" in one_line(capsys)
