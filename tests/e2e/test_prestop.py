"""What the manifests run before a pod is stopped, in a namespace of processes as a pod has one."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from deploy.render import FOLDER

pytestmark = pytest.mark.e2e

CLUSTER = next(
    document
    for document in yaml.safe_load_all((FOLDER / "base" / "cluster.yaml").read_text())
    if document["kind"] == "RayCluster"
)
GROUPS = {"head": CLUSTER["spec"]["headGroupSpec"]} | {g["groupName"]: g for g in CLUSTER["spec"]["workerGroupSpecs"]}
#: Whose processes are told to leave before their pod is stopped.
LEAVING = {"generator": "Generator", "verifier": "Verifier", "scorer": "Scorer"}
#: A process that takes a while to end in order once it is told to, and says so.
PROCESS = """
import signal, sys, time
from pathlib import Path
def told(*_):
    time.sleep(1.5)
    Path(sys.argv[-1]).write_text("ended in order")
    sys.exit()
signal.signal(signal.SIGTERM, told)
Path(sys.argv[-1]).write_text("at work")
while True:
    time.sleep(0.1)
"""


def script(group: str) -> list[str]:
    container = GROUPS[group]["template"]["spec"]["containers"][0]
    command: list[str] = container["lifecycle"]["preStop"]["exec"]["command"]
    return command


def pod(folder: Path, processes: dict[str, str], command: list[str]) -> None:
    """Run a command beside processes in a namespace of their own, once these are up.

    Args:
        folder: where each process says in a file of its name how it is.
        processes: for each its file, and how it is started.
        command: to run.
    """
    started = "\n".join(f"{start} {folder}/{name} & others+=($!)" for name, start in processes.items())
    wait = "\n".join(f"until [ -s {folder}/{name} ]; do sleep 0.05; done" for name in processes)
    text = (
        f"others=()\n{started}\n{wait}\n{shlex.join(command)}\necho $? > {folder}/code\nkill -KILL ${{others[@]}}\ntrue"
    )
    (folder / "pod.sh").write_text(text)
    inside = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "bash", str(folder / "pod.sh")]
    done = subprocess.run(inside, capture_output=True, text=True, timeout=240)
    assert (done.returncode, (folder / "code").read_text()) == (0, "0\n"), done.stderr


@pytest.fixture
def process(tmp_path: Path) -> Path:
    """The program above under the name of the command, as a file of Python's has it."""
    path = tmp_path / "bin" / "leeway"
    path.parent.mkdir()
    path.write_text(PROCESS)
    return path


def test_the_heads_waits_for_the_driver_to_end_in_order(process: Path, tmp_path: Path) -> None:
    python = sys.executable
    processes = {"driver": f"{python} {process} run recipe.yaml", "other": f"{python} -c {shlex.quote(PROCESS)} leeway"}
    pod(tmp_path, processes, script("head"))
    assert (tmp_path / "driver").read_text() == "ended in order"
    assert (tmp_path / "other").read_text() == "at work"


@pytest.mark.parametrize("group", LEAVING)
def test_a_pools_waits_for_its_own_to_drain(group: str, tmp_path: Path) -> None:
    title = {
        name: f"exec -a ray::{name}.run {sys.executable} -c {shlex.quote(PROCESS)} $0" for name in LEAVING.values()
    }
    pod(tmp_path, {name: f"bash -c {shlex.quote(start)}" for name, start in title.items()}, script(group))
    said = {name: (tmp_path / name).read_text() for name in LEAVING.values()}
    assert said == dict.fromkeys(LEAVING.values(), "at work") | {LEAVING[group]: "ended in order"}


@pytest.mark.parametrize("group", ["head", *LEAVING])
def test_where_nobody_is_at_work_the_pod_is_stopped_at_once(group: str, tmp_path: Path) -> None:
    pod(tmp_path, {}, script(group))
