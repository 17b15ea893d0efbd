"""What is installed: three packages, whose light commands need nothing of training."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.sources import ROOT, files


def _lacking() -> tuple[str, ...]:
    """Modules that an installation without extras lacks, and what it has but light commands leave alone."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = [re.split(r"[^\w-]", line)[0].replace("-", "_") for extra in ("train", "cpu") for line in extras[extra]]
    return (*sorted({*named, "vllm"} - {"leeway_rl"}), "zmq", "msgpack")


ABSENT = _lacking()
_RUN = """
import sys

sys.modules.update(dict.fromkeys({absent}))
sys.path.insert(0, {site!r})
sys.argv = ["leeway", *{arguments}]
import actors.cli
assert actors.cli.__file__.startswith({site!r}), actors.cli.__file__
actors.cli.main()
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of the checkout: building leaves files beside the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    everywhere = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info")

    def left_out(here: str, names: list[str]) -> set[str]:
        return everywhere(here, names) | ({"build", "models", "runs"} if Path(here) == ROOT else set())

    shutil.copytree(ROOT, folder / "checkout", ignore=left_out)
    build = "from setuptools import build_meta; import sys; build_meta.build_wheel(sys.argv[1])"
    command = [sys.executable, "-c", build, str(folder)]
    subprocess.run(command, cwd=folder / "checkout", check=True, capture_output=True, timeout=120)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def site(wheel: Path) -> Path:
    """A folder that holds what the wheel installs."""
    folder = wheel.parent / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def leeway(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = _RUN.format(absent=ABSENT, site=str(site), arguments=list(arguments))
    command = [sys.executable, "-I", "-c", program]
    return subprocess.run(command, cwd=site, capture_output=True, text=True, timeout=120)


def test_it_holds_three_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"actors", "learner", "sandbox"}
    modules = {path.relative_to(ROOT).as_posix() for top in tops for path in files(top, "*.py")}
    assert {name for name in names if name.endswith(".py")} == modules
    assets = {path.relative_to(ROOT).as_posix() for path in files("actors/report/assets", "*.*")}
    assert assets <= set(names)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run", "--help"], ["sandbox", "--help"]])
def test_it_introduces_itself_without_training(site: Path, arguments: list[str]) -> None:
    ended = leeway(site, *arguments)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "leeway" in ended.stdout


def test_it_checks_a_recipe_without_training(site: Path) -> None:
    ended = leeway(site, "check", str(ROOT / "recipes" / "quickstart.yaml"))
    assert ended.returncode == 0 and ended.stderr.startswith("memory")
    assert ended.stdout.startswith("name: quickstart\n")


def test_it_scores_without_training(site: Path, tmp_path: Path) -> None:
    records = [{"verifier": "exact", "response": "<answer>4</answer>", "answer": answer} for answer in ("4", "5")]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    ended = leeway(site, "score", str(tmp_path / "in.jsonl"), "-o", str(tmp_path / "out.jsonl"))
    assert ended.returncode == 0, ended.stderr
    scored = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [json.loads(line)["status"] for line in scored] == ["ok", "wrong"]


def test_benchmarks_stay_in_the_checkout(site: Path) -> None:
    ended = leeway(site, "bench", "math")
    assert ended.returncode == 2
    assert "part of a checkout" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_a_run_says_which_package_it_lacks(site: Path, tmp_path: Path) -> None:
    recipe = str(ROOT / "recipes" / "quickstart.yaml")
    ended = leeway(site, "run", recipe, "-s", f"output={tmp_path}")
    assert ended.returncode == 2
    assert "extra `cpu` or `cuda`" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_machine_is_examined_without_training(site: Path, tmp_path: Path) -> None:
    recipe = str(ROOT / "recipes" / "quickstart.yaml")
    ended = leeway(site, "doctor", recipe, "--json", "-s", f"output={tmp_path}", "-s", "sandbox.unsafe=true")
    found = json.loads(ended.stdout)
    assert {found[name]["fitness"] for name in ("isolation", "ports", "clock")} == {"ok"}, found
    assert all("torch is not installed" in found[name]["measured"] for name in ("GPUs", "network"))
    assert list(tmp_path.iterdir()) == []
