"""Whole runs of the real program: what they leave behind, and what survives which death."""

import json
import re
import signal
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families
from safetensors.torch import load_file

from actors.deadline import until
from tests.e2e.conftest import ENDLESS, ROOT, Run, starting

pytestmark = pytest.mark.e2e

Start = Callable[..., Run]
FLOAT32_BYTES = 4
ELSEWHERE = "10.9.0.1"
#: Gives every group an advantage, however little the model can do after ten steps.
LENGTH_PUNISHED = {
    "rewards.overlong_max_tokens": "20",
    "rewards.overlong_cache_tokens": "20",
    "rewards.weights.overlong": "1",
    "learner.objective.name": "grpo",
}


def nothing_left(processes: list[psutil.Process]) -> bool:
    def there(process: psutil.Process) -> bool:
        try:
            return process.is_running() and process.status() != "zombie"
        except psutil.NoSuchProcess:  # since the line before
            return False

    return until(lambda: not any(map(there, processes)), 60)


def ends_when_asked(run: Run, processes: list[psutil.Process]) -> int:
    """Let a run go on for two more steps, and end it by Ctrl-C, whereupon nothing is left of it; how far it was before.

    Args:
        run: that goes on.
        processes: of it that are known already, dead ones as well.
    """
    reached = run.steps
    run.wait_for_step(reached + 2)
    processes = processes + run.processes()
    run.kill(signal.SIGINT)
    assert run.end() == 130, run.text()[-3000:]
    assert nothing_left(processes)
    return reached


def usable(run: Run) -> dict[str, Any]:
    """The summary of a run folder in which everything can be read."""
    folder = run.folder
    assert (folder / "recipe.yaml").read_text()
    assert "<html" in (folder / "report.html").read_text()
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        json.loads(line)
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return summary


def agreeing(steps: list[dict[str, Any]]) -> bool:
    """Whether the engine computed with the learner's weights wherever something was trained."""
    statistics = [e["statistics"] for e in steps]
    compared = all(s["logprob_difference_tokens"] == s["trained_tokens"] > 0 for s in statistics)
    return compared and all(s["logprob_difference_mean"] < 1e-3 for s in statistics)


def test_a_run_with_vllm_from_beginning_to_end(start: Start) -> None:
    run = start(**{"generators.engine": "vllm"})
    assert run.end() == 0, run.text()[-3000:]
    summary = usable(run)
    assert summary["steps"] == 4
    assert summary["held_out"]["before"]["n"] == summary["held_out"]["after"]["n"] == 8
    assert summary["staleness"]["max"] <= 4
    assert summary["tokens"]["trained"] > 0
    assert summary["weight_sync"]["bytes"] > 1_000_000
    assert summary["groups"]["committed"] == 4 * 4
    assert (run.folder / "model" / "config.json").exists()
    assert (run.folder / "samples.jsonl").read_text().count("\n") >= 4


@pytest.fixture(scope="module")
def under_way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run of many steps that trains: the first of two tests looks at it, and the second ends it."""
    with starting(tmp_path_factory.mktemp("under-way")) as start:
        run = start(steps=ENDLESS)
        run.wait_for_step(3)
        yield run


def test_the_controller_serves_what_an_operator_needs(under_way: Run) -> None:
    found = re.search(r"watch it at (http://[\d.:]+)", under_way.text())
    assert found

    def get(path: str) -> str:
        with urllib.request.urlopen(found[1] + path, timeout=60) as response:
            return str(response.read().decode())

    def ready() -> bool:  # nobody is silent just now, as somebody may be who stood still for long
        try:
            return bool(json.loads(get("/readyz"))["ready"])
        except urllib.error.HTTPError as error:
            assert error.code == 503
            return False

    def targets() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(get("/targets"))
        return found if {each["labels"]["role"] for each in found} == everybody else []

    everybody = {"controller", "replay", "learner", "generator", "verifier"}
    assert json.loads(get("/healthz"))["status"] == "ok"
    under_way.wait_for("everybody to be ready", ready)
    status = json.loads(get("/status"))
    assert status["replay"]["conserved"] is True
    names = set()
    for target in under_way.wait_for("everybody to be a target", targets):
        with urllib.request.urlopen(f"http://{target['targets'][0]}/metrics", timeout=60) as response:
            names |= {family.name for family in text_string_to_metric_families(response.read().decode())}
    assert {"leeway_staleness_versions", "leeway_busy_seconds", "leeway_weight_sync_pause_seconds"} <= names


def test_ctrl_c_ends_everything_and_the_run_can_go_on_with_what_is_changed(under_way: Run, start: Start) -> None:
    run = under_way
    processes = run.processes()
    assert len(processes) > 4
    second = start(["--resume", str(run.folder)])
    assert second.end() == 2
    assert f"this run is alive (process {run.process.pid} on " in second.text()
    run.kill(signal.SIGINT)
    assert run.end() == 130
    assert nothing_left(processes)
    reached = usable(run)["steps"]
    assert reached >= 3
    steps = reached + 4  # a fast machine is further than step 3 by the time that the interrupt arrives
    changed = {"steps": steps, "learner.optimizer.learning_rate": 1e-6, "replay.groups_per_batch": 2}
    again = start(["--resume", str(run.folder), *(f"-s{key}={value}" for key, value in changed.items())])
    again.output = run.output
    assert again.end() == 0, again.text()[-3000:]
    assert "replay.groups_per_batch: 4 -> 2" in again.text()
    summary = usable(again)
    assert summary["steps"] == steps
    assert summary["held_out"]["before"]["n"] == 8, "what was measured before the interruption is lost"
    assert summary["groups"]["committed"] == reached * 4 + 4 * 2
    rates = {e["step"]: e["statistics"]["learning_rate"] for e in again.events() if e["kind"] == "step"}
    # the schedule may lower the rate, which is the highest
    assert all(0 < rates[step] <= 1e-6 for step in range(reached + 1, steps + 1)) and rates[1] > 1e-6
    assert f"steps: {steps}" in (run.folder / "recipe.yaml").read_text()
    assert f"steps: {ENDLESS}" in (run.folder / f"recipe-until-{reached:06d}.yaml").read_text()
    third = start(["--resume", str(run.folder)])
    assert third.end() == 2 and "nothing is left to do" in third.text()


def test_sigterm_to_every_process_at_once_leaves_a_checkpoint(start: Start) -> None:
    """As from Slurm, systemd or Kubernetes, which do not know which process saves."""
    changes = {"generators.engine": "synthetic", "cold_start": "null", "checkpoint_every_steps": "0"}
    run = start(steps=ENDLESS, **changes)
    run.wait_for_step(3)
    processes = run.processes()
    for process in [*processes, psutil.Process(run.process.pid)]:
        with suppress(psutil.NoSuchProcess):  # it has ended with one that was told before
            process.send_signal(signal.SIGTERM)
    assert run.end() == 143
    assert nothing_left(processes)
    summary = usable(run)
    assert summary["steps"] >= 3
    assert (run.folder / "checkpoints" / f"step-{summary['steps']:06d}").is_dir()
    assert [e["name"] for e in run.events() if e["kind"] == "phase"][-1] == "interrupted"
    assert "--resume" in run.text()
    for unwanted in ("Traceback", "SIGTERM received"):
        assert unwanted not in run.text()


def test_a_run_in_a_strange_place(start: Start, tmp_path: Path) -> None:
    """A user without a name or a home, a host without an address, another cluster's variables, dead proxies, a long
    TMPDIR, few descriptors, an ascii log.
    """
    long = tmp_path / ("scratch" * 10)
    long.mkdir()
    strange = {
        "TMPDIR": str(long),
        "RAY_ADDRESS": "127.0.0.1:9",
        "RAY_TMPDIR": "/nowhere",
        "RAY_RUNTIME_ENV_HOOK": "no.such.hook",
        "RAY_JOB_CONFIG_JSON_ENV_VAR": '{"runtime_env": {"working_dir": "gcs://gone.zip"}}',
        **{f"{kind}_proxy": "http://127.0.0.1:9" for kind in ("http", "https", "all", "grpc")},
        "PYTHONIOENCODING": "ascii",
        "PYTHONSAFEPATH": "1",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "64",
        "CUDA_VISIBLE_DEVICES": "",
        "LC_ALL": "C",
    }
    place = ("unshare", "--uts", "sh", "-c", 'umask 077 && hostname nowhere.invalid && exec "$@"', "sh")
    nobody = ("prlimit", "--nofile=1024", "unshare", "--user", "--map-user=12345", "--map-group=12345")
    unset = [f"-u{name}" for name in ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME")]
    changed = [f"{name}={value}" for name, value in strange.items()]
    inside = (*place, *nobody, "env", *unset, *changed)
    run = start(steps="2", inside=inside, **{"generators.engine": "synthetic", "cold_start": "null"})
    assert run.end() == 0, run.text()[-3000:]
    assert usable(run)["steps"] == 2
    assert run.text().isascii()
    assert not list(long.iterdir())


def test_a_killed_driver_leaves_nothing(start: Start) -> None:
    """That of the controller, which is replaced, is among the deaths of `test_recovery`."""
    run = start(steps=ENDLESS)
    run.wait_for_step(2)
    processes, temporary = run.processes(), run.temporary()
    assert temporary.exists()
    run.kill(signal.SIGKILL)
    assert nothing_left(processes)
    assert until(lambda: not temporary.exists(), 30), "sockets are left behind"
    usable(run)
    assert list((run.folder / "checkpoints").glob("step-*"))


@pytest.fixture(scope="module")
def distributed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run of three generators, in a network namespace whose only address beside loopback is the one that is
    advertised. It went on until all three took an update together: training begins when the first of them is up.
    """
    enter = f'ip link set lo up && ip address add {ELSEWHERE}/32 dev lo && exec "$@"'
    changes = {"generators.engine": "synthetic", "generators.count": "3", "replay.max_staleness": "1"}
    changes |= {"generators.synthetic.pass_rate": "0.5", "network.advertise": ELSEWHERE}
    changes |= {"network.ports.range": "[30000,30040]", "network.ports.status": "30100"}
    with starting(tmp_path_factory.mktemp("distributed")) as start:
        run = start(steps=ENDLESS, inside=("unshare", "--net", "sh", "-c", enter, "sh"), **changes)
        run.wait_for("an update of all three", lambda: run.happened("weight_sync", members=3))
        run.wait_for_step(run.steps + 12)
        run.kill(signal.SIGTERM)
        assert run.end() == 128 + signal.SIGTERM, run.text()[-3000:]
        yield run


def test_several_generators_share_the_work_within_the_bound(distributed: Run) -> None:
    summary = usable(distributed)
    assert summary["steps"] >= 12
    assert summary["staleness"]["max"] <= 1
    assert max(e["members"] for e in distributed.events() if e["kind"] == "weight_sync") == 3


def test_a_run_keeps_to_the_address_and_the_ports_that_it_is_given(distributed: Run) -> None:
    assert f"watch it at http://{ELSEWHERE}:30100/" in distributed.text()
    assert usable(distributed)["steps"] >= 12
    assert [e for e in distributed.events() if e["kind"] == "weight_sync"], "no weights arrived over that address"


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A finished run of two ranks of the learner that sends adapters to vLLM."""
    changes = {"learner.ranks": "2", "learner.lora.rank": "4", "learner.lora.broadcast": "adapters"}
    changes |= {"generators.engine": "vllm", "replay.max_staleness": "0", "rewards.language": "en"} | LENGTH_PUNISHED
    # Every socket of such a run, of replay, ranks, broadcast group, metrics and status page, can do IPv6.
    changes |= {"network.advertise": "::1"}
    with starting(tmp_path_factory.mktemp("two-ranks")) as start:
        run = start(steps="2", **changes)
        assert run.end() == 0, run.text()[-3000:]
        yield run


def test_two_ranks_of_the_learner_train_and_send_adapters_and_save(two_ranks: Run) -> None:
    run = two_ranks
    summary = usable(run)
    assert summary["steps"] == 2 and summary["groups"]["committed"] == 2 * 4
    assert "rank 1 of 2" in (run.folder / "logs" / "learner-rank-1.log").read_text()
    assert (run.folder / "model" / "model.safetensors").exists()
    steps = [e for e in run.events() if e["kind"] == "step"]
    for name in ("reward/accuracy", "reward/format", "reward/language", "mfu", "effective_sample_size"):
        assert all(name in e["statistics"] for e in steps), name


def test_two_ranks_of_the_learner_send_half_of_the_weights_each_up_to_the_last_ones(start: Start) -> None:
    changes = {"learner.ranks": "2", "weights.senders": "2", "generators.engine": "vllm", "weights.delta": "true"}
    run = start(steps="2", **changes | LENGTH_PUNISHED | {"replay.max_staleness": "0"})
    assert run.end() == 0, run.text()[-3000:]
    assert usable(run)["steps"] == 2
    events = run.events()
    assert {"before", "after"} <= {e["name"] for e in events if e["kind"] == "evaluation"}, "the last ones did not come"
    syncs = [e for e in events if e["kind"] == "weight_sync"]
    assert [e["version"] for e in syncs][-1] == 2
    weights = load_file(run.folder / "model" / "model.safetensors")
    assert syncs[0]["bytes"] == sum(tensor.nbytes for tensor in weights.values()), "both halves are counted"
    assert agreeing([e for e in events if e["kind"] == "step"])
    assert "learner-rank-1 registered" in (run.folder / "logs" / "learner.log").read_text()


def test_two_ranks_of_the_learner_go_on_with_their_adapters_and_another_engine(two_ranks: Run, start: Start) -> None:
    run = two_ranks
    again = start(["--resume", str(run.folder), "-s", "steps=4", "-s", "generators.engine=transformers"])
    again.output = run.output
    assert again.end() == 0, again.text()[-3000:]
    assert usable(again)["steps"] == 4
    events = again.events()
    steps = [e for e in events if e["kind"] == "step"]
    assert [e["step"] for e in steps] == [1, 2, 3, 4]
    assert all(e["statistics"]["optimizer_steps"] == 1 for e in steps), "the adapters did not change"
    assert all(set(e["staleness"]) == {"0"} for e in steps)
    assert agreeing(steps), "what the engines merged is not what the learner trains"
    attention, gated = 4 * (192 + 192), 3 * (192 + 512)  # inputs and outputs of the adapted layers, of which two
    assert {e["bytes"] for e in events if e["kind"] == "weight_sync"} == {2 * (attention + gated) * 4 * FLOAT32_BYTES}
