"""The preflight in a real Ray cluster of its own; in place of MPICH and nccl-tests programs that say which GPU sent."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.config.loading import load
from actors.deadline import until
from actors.weights.bandwidth import of_nccl_tests

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
#: Until the cluster is there (s).
PATIENCE = 120.0
#: A cluster of this machine that claims to have GPUs, and ends with its standard input.
CLUSTER = """
import sys
import ray
ray.init(
    address="local", num_cpus=4, num_gpus=4, include_dashboard=False, object_store_memory=80 * 2**20,
    _temp_dir=sys.argv[1],
)
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
ray.shutdown()
"""
#: Prints a command a rank as MPICH's does, and waits until each has run. The first rank writes the report.
MPIEXEC = """#!/bin/sh
while [ "$1" != -n ]; do shift; done
n=$2; shift 3
here=$(mktemp -d)
for i in $(seq 0 $((n - 1))); do echo "HYDRA_LAUNCH: $1 $here $i $n $9"; done
echo HYDRA_LAUNCH_END
for i in $(seq 0 $((n - 1))); do until [ -e "$here/$i" ]; do sleep 0.02; done; done
"""
#: As fast as its GPU's number says, from 10 GB/s down.
TEST = """#!/bin/sh
[ $2 = 0 ] && echo '{"results": [{"size": 65536, "out_of_place": {"alg_bw": '$((10 - CUDA_VISIBLE_DEVICES))'}}]}' > $4
echo "$CUDA_VISIBLE_DEVICES of $3" > $1/$2.being-written
mv $1/$2.being-written $1/$2
"""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name, text in (("mpiexec.hydra", MPIEXEC), ("broadcast_perf", TEST), ("all_reduce_perf", TEST)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    log = tmp_path / "cluster"
    place = tempfile.mkdtemp(prefix="lw-")  # short, since Ray puts Unix sockets there
    with log.open("w") as file:
        ray = subprocess.Popen([sys.executable, "-c", CLUSTER, place], stdin=subprocess.PIPE, stdout=file, text=True)
    try:
        assert until(lambda: "\n" in log.read_text(), PATIENCE), "Ray did not start"
        yield log.read_text().splitlines()[-1]
    finally:
        assert ray.stdin is not None
        ray.stdin.close()
        ray.wait(PATIENCE)
        shutil.rmtree(place, ignore_errors=True)


def test_each_sender_is_measured_with_all_generators(cluster: str) -> None:
    from actors.doctor.preflight import measured

    changes = ["learner.ranks=3", "weights.senders=2", "generators.count=1", "weights.bucket_bytes=65536"]
    changes += [f"{role}.cpus=0.5" for role in ("learner", "generators")]
    changes += [f"ray.address={cluster}", "network.advertise=127.0.0.1"]
    found = measured(load(ROOT / "recipes" / "r1-qwen2.5-7b.yaml", changes))
    speeds = {name: of_nccl_tests(data, 65536, name).bytes_per_second for name, data in found.broadcasts.items()}
    assert list(speeds) == ["learner", "learner-rank-1"]
    first, second = speeds.values()
    assert first != second, "each is measured at its own place"
    assert of_nccl_tests(found.all_reduce, 65536, "all-reduce").bytes_per_second == first
