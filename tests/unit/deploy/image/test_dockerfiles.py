"""What can be said of the Dockerfiles without building them."""

import re
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[4]
FOLDER = ROOT / "deploy" / "image"
KINDS = ("cpu", "cuda")
#: Packages with which something can be compiled.
COMPILERS = re.compile(r"\b(gcc|g\+\+|clang|make|build-essential|python3-dev|libc6-dev)\b")
#: What the last stage has to say.
REQUIRED = ("LABEL", "WORKDIR", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT")


class Instruction(NamedTuple):
    word: str
    rest: str


def parse(text: str) -> list[list[Instruction]]:
    """Instructions of each stage; what stands before the first FROM is a stage of its own."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    stages: list[list[Instruction]] = [[]]
    for line in re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines():
        word, _, rest = line.partition(" ")
        if word == "FROM":
            stages.append([])
        stages[-1].append(Instruction(word, rest.strip()))
    return stages


def faults(text: str) -> list[str]:
    """What is wrong with a Dockerfile, each as one line."""
    first, *stages = parse(text)
    names = {stage[0].rest.rpartition(" AS ")[2] for stage in stages if " AS " in stage[0].rest}
    bases = [argument.rest.partition("=")[2] for argument in first if argument.word == "ARG"]
    bases += [source for stage in stages if not (source := stage[0].rest.partition(" ")[0]).startswith("$")]
    found = [
        f"{base}: neither a digest nor a dated tag"
        for base in bases
        if base not in names and not re.search(r"@sha256:[0-9a-f]{64}$|:[\w.-]*\d{8}[\w.-]*$", base)
    ]
    everything = [instruction for stage in stages for instruction in stage]
    for word, rest in everything:
        if word == "ADD":
            found.append(f"ADD {rest}: COPY says what comes in")
        if word == "RUN" and "apt-get install" in rest:
            if "rm -rf /var/lib/apt/lists/*" not in rest:
                found.append(f"RUN {rest}: leaves apt's lists in the layer")
            if "--no-install-recommends" not in rest:
                found.append(f"RUN {rest}: installs what is only recommended")
        if word == "RUN" and re.search(r"(curl|wget)[^&|]*\|\s*(ba)?sh", rest):
            found.append(f"RUN {rest}: runs what it downloads")
        if word in ("ENTRYPOINT", "CMD") and not rest.startswith("["):
            found.append(f"{word} {rest}: goes through a shell, which keeps signals to itself")
    last = stages[-1]
    users = [rest for word, rest in last if word == "USER"]
    if not users or not re.fullmatch(r"[1-9]\d+:[1-9]\d+", users[-1]):
        found.append("the last stage runs as root, or as a name that Kubernetes cannot tell from root")
    shipped = [*last, *(i for stage in stages if stage[0].rest.endswith(f"AS {last[0].rest}") for i in stage)]
    runs = [rest for word, rest in shipped if word == "RUN"]
    found += [f"RUN {rest}: a compiler in the last stage" for rest in runs if COMPILERS.search(rest)]
    words = {word for word, _ in last}
    return found + [f"no {word}" for word in REQUIRED if word not in words]


def dockerfile(kind: str) -> str:
    return (FOLDER / f"Dockerfile.{kind}").read_text()


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_wrong_with_it(kind: str) -> None:
    assert faults(dockerfile(kind)) == []


@pytest.mark.parametrize(
    ("right", "wrong", "fault"),
    [
        ("debian:bookworm-20250520-slim\n\n", "debian:latest\n\n", "neither a digest nor"),
        ("USER 10001:10001", "USER leeway", "runs as root, or"),
        ("USER 10001:10001", "USER 0:0", "runs as root, or"),
        ("USER 10001:10001\n", "", "runs as root, or"),
        ("rm -rf /var/lib/apt/lists/*", "true", "apt's lists"),
        ("--no-install-recommends", "", "only recommended"),
        ("python3 tini wget", "python3 tini wget gcc", "a compiler in the last stage"),
        ('ENTRYPOINT ["/usr/bin/tini", "--", "leeway"]', "ENTRYPOINT leeway", "goes through a shell"),
        ("COPY README.md /src/", "ADD https://example.org/README.md /src/", "COPY says"),
        ("STOPSIGNAL SIGTERM\n", "", "no STOPSIGNAL"),
    ],
)
def test_each_rule_is_held(right: str, wrong: str, fault: str) -> None:
    text = dockerfile("cpu")
    assert right in text
    assert any(fault in found for found in faults(text.replace(right, wrong)))


def test_both_have_their_stages_and_instructions_in_one_order() -> None:
    def shape(kind: str) -> list[tuple[str, list[str]]]:
        return [(stage[0].rest, [word for word, _ in stage if word != "ARG"]) for stage in parse(dockerfile(kind))[1:]]

    cpu, cuda = shape("cpu"), [stage for stage in shape("cuda") if stage[0] not in _CUDA_ALONE]
    assert [name for name, _ in cpu] == [name for name, _ in cuda]
    for (name, words), (_, others) in zip(cpu[:-1], cuda[:-1], strict=True):
        assert words == others, name
    ours, theirs = (list(dict.fromkeys(shape(kind)[-1][1])) for kind in KINDS)
    assert ours == theirs  # the last stage copies two layers more


_CUDA_ALONE = ("tools AS triton", "tools AS nccl-tests")


@pytest.mark.parametrize("kind", KINDS)
def test_what_changes_seldom_comes_first(kind: str) -> None:
    layers = [rest.split()[0].removeprefix("--from=") for word, rest in parse(dockerfile(kind))[-1] if word == "COPY"]
    assert [layer for layer in layers if layer in (order := ["tools", "torch", "dependencies", "project"])] == order
    assert layers[-1] == "project"


@pytest.mark.parametrize("kind", KINDS)
def test_every_file_that_it_copies_is_there_and_not_ignored(kind: str) -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for word, rest in (instruction for stage in parse(dockerfile(kind)) for instruction in stage):
        sources = [path for path in rest.split()[:-1] if not path.startswith("--")]
        if word != "COPY" or "--from=" in rest:
            continue
        for source in sources:
            assert (ROOT / source).exists(), source
            assert any(Path(source).match(a) or source.startswith(f"{a}/") for a in allowed), f"{source} is ignored"


@pytest.mark.parametrize("kind", KINDS)
def test_it_installs_its_own_lock_and_resolves_nothing(kind: str) -> None:
    text = dockerfile(kind)
    (other,) = set(KINDS) - {kind}
    assert text.count(f"COPY requirements/{kind}.lock requirements/storage.lock /src/") == 2
    assert len(re.findall(rf"contents.py \w+ /src/pyproject.toml /src/{kind}.lock /src/storage.lock ", text)) == 2
    assert f"{other}.lock" not in text
    commands = [rest for stage in parse(text) for word, rest in stage if word == "RUN"]
    installs = [part for rest in commands for part in rest.split("&&") if "pip install" in part]
    assert installs
    assert all("--no-deps" in part or re.search(r"==[\d.]+\s*$", part) for part in installs)


@pytest.mark.parametrize("kind", KINDS)
def test_versions_are_those_of_the_project(kind: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    text = dockerfile(kind)
    assert f'image.version="{project["project"]["version"]}-{kind}"' in text
    (setuptools,) = project["build-system"]["requires"]
    assert text.count(setuptools) == text.count("setuptools==") == 2
    (uv,) = re.findall(r"uv==[\d.]+", (ROOT / "requirements" / "install.sh").read_text())
    assert uv in text


def test_the_bill_of_materials_is_where_its_label_says() -> None:
    for kind in KINDS:
        text = dockerfile(kind)
        (place,) = re.findall(r'sbom="/opt/leeway/([^"]+)"', text)
        assert f"> /layer/{place}" in text
