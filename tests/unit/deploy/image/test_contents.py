import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.image.contents import bill, development, pinned

ROOT = Path(__file__).parents[4]
PROJECT = (ROOT / "pyproject.toml").read_text()
LOCKS = ("requirements/cpu.lock", "requirements/storage.lock")
#: What a run on this machine has in another version than an image, and why.
REPLACED = {"python-dateutil": "aiobotocore takes no 4.0"}


def closure(requirements: list[str]) -> set[str]:
    """Distributions that these requirements bring, by what is installed here."""
    seen: set[tuple[str, frozenset[str]]] = set()
    todo = [Requirement(text) for text in requirements]
    while todo:
        wanted = todo.pop()
        if (key := (canonicalize_name(wanted.name), frozenset(wanted.extras))) in seen:
            continue
        seen.add(key)
        try:
            needs = [Requirement(text) for text in requires(wanted.name) or []]
        except PackageNotFoundError:  # for another platform, or left out by the overrides
            continue
        todo += [n for n in needs if not n.marker or any(n.marker.evaluate({"extra": e}) for e in ("", *wanted.extras))]
    return {name for name, _ in seen}


def test_nothing_that_runs_needs_what_an_image_leaves_out() -> None:
    project = tomllib.loads(PROJECT)["project"]
    extras = project["optional-dependencies"]
    runs = [*project["dependencies"], *extras["train"], *extras["cpu"], *extras["cuda"]]
    needed = closure([requirement for requirement in runs if not requirement.startswith("leeway-rl")])
    assert needed & development(PROJECT) == set()


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_an_image_reads_and_writes_the_clouds_storage_beside_its_lock(kind: str) -> None:
    lock, storage = ((ROOT / "requirements" / f"{name}.lock").read_text() for name in (kind, "storage"))
    before, after = pinned(lock, set()), pinned(f"{lock}\n{storage}", set())
    extras = tomllib.loads(PROJECT)["project"]["optional-dependencies"]
    assert {f"{name}=={version}" for name, version in after.items()} > {*extras["s3"], *extras["gcs"]}
    assert {name for name in before if after[name] != before[name]} == set(REPLACED)


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_an_image_installs_the_lock_but_for_development(kind: str) -> None:
    lines = (ROOT / "requirements" / f"{kind}.lock").read_text().split()
    kept = pinned("\n".join(lines), development(PROJECT))
    assert {f"{name}=={version}" for name, version in kept.items()} < set(lines)
    assert set(lines) - {f"{name}=={version}" for name, version in kept.items()} == {
        line for line in lines if line.partition("==")[0] in development(PROJECT)
    }
    assert {"torch", "ray", "jsonschema"} < set(kept)
    assert not {"pytest", "mypy", "ruff"} & set(kept)


def test_a_line_without_an_exact_version_is_refused() -> None:
    with pytest.raises(ValueError, match="ray>=2"):
        pinned("torch==2.13.0\nray>=2\n", set())


def test_the_bill_names_every_package_and_is_the_same_each_time() -> None:
    python, debian = {"ray": "2.60.0", "torch": "2.13.0+cpu"}, {"libc6": "2.36-9"}
    made = bill(python, debian, "lock")
    assert made == bill(dict(reversed(python.items())), debian, "lock")
    assert made["specVersion"] == "1.6"
    assert [component["purl"] for component in made["components"]] == [
        "pkg:deb/debian/libc6@2.36-9",
        "pkg:pypi/ray@2.60.0",
        "pkg:pypi/torch@2.13.0%2Bcpu",
    ]
    assert made["serialNumber"] != bill(python, {"libc6": "2.36-10"}, "lock")["serialNumber"]


def test_it_runs_before_anything_is_installed() -> None:
    script = ROOT / "deploy" / "image" / "contents.py"
    command = [sys.executable, "-I", "-S", str(script), "requirements", "pyproject.toml", *LOCKS]
    ended = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=30)
    assert {"ray==2.60.0", "s3fs==2026.9.0"} < set(ended.stdout.splitlines())
    assert ended.stderr == ""
