"""What a run stands on: a reaper that ends its processes with it, variables that suit the machine, a Ray cluster."""

import logging
import math
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from actors.config.recipe import Recipe
from actors.control import environment, reaper
from actors.control.environment import Environment
from actors.control.placement import processes, resources
from actors.deadline import until
from actors.errors import RunError
from learner.files import write_atomically
from sandbox.interrupts import Interrupts

log = logging.getLogger(__name__)

#: The file of a run folder that has the name of the run's namespace in Ray clusters.
NAMESPACE = "namespace"
#: Attempts to reach the head of a named cluster. Each takes Ray 40 s where that hangs, and by itself it makes 20.
HEAD_ATTEMPTS = 2
#: How often it is looked whether this process has left its cluster, and what it then has to do it in (s).
LEAVING_SECONDS = 0.3
#: Longest wait for Ray to let this process go (s): it waits without an end for processes of its own that hang.
LEAVE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Guard:
    """What `guarded` gives.

    Attributes:
        folder: for sockets; it goes with the run.
        end_processes: lets the reaper end every process of the run; returns at once.
    """

    folder: Path
    end_processes: Callable[[], None]


@contextmanager
def guarded(found: Environment, keep: Sequence[int] = ()) -> Iterator[Guard]:
    """A mark on all that this process starts, variables that suit the machine, and a reaper that ends them with it.

    Args:
        found: what the machine is like.
        keep: descriptors that the reaper has, too: a lock that goes with them lasts until nothing of the run is left,
            however this process ends.
    """
    run = secrets.token_hex(8)
    folder = environment.temporary_folder()
    environment.write_token(folder)
    inherited = {k: v for k, v in os.environ.items() if k != reaper.MARK}
    watcher = subprocess.Popen(
        [sys.executable, "-I", "-S", reaper.__file__, run, str(folder)],
        stdin=subprocess.PIPE,
        pass_fds=tuple(keep),
        start_new_session=True,
        env=inherited,
    )
    assert watcher.stdin is not None
    os.set_inheritable(watcher.stdin.fileno(), False)
    changed = environment.variables(found, folder) | environment.place_of_keys() | {reaper.MARK: run}
    try:
        with _environ(changed):
            yield Guard(folder, watcher.stdin.close)
    finally:
        watcher.stdin.close()
        try:
            watcher.wait(reaper.SWEEP_SECONDS + 5)
        except subprocess.TimeoutExpired:
            log.warning("the reaper has not finished; processes of this run may be left")
        shutil.rmtree(folder, ignore_errors=True)  # a library of this process may have written there since it finished


@contextmanager
def _environ(changed: Mapping[str, str | None]) -> Iterator[None]:
    """Environment variables of this process and its children for a while; None takes one away."""
    before = dict(os.environ)
    tempfile.tempdir = None
    for name, value in changed.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    try:
        yield
    finally:
        for name in changed:
            os.environ.pop(name, None)
        os.environ |= {name: before[name] for name in changed if name in before}
        tempfile.tempdir = None


@contextmanager
def cluster(recipe: Recipe, folder: Path, guard: Guard, interrupts: Interrupts) -> Iterator[None]:
    """Join the recipe's Ray cluster, or start a small one that ends with this process.

    What the run starts there has names in a namespace of its run folder, and is ended by them: in the end, and, where
    an earlier process of the run could not do that, in the beginning.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    ray = imported_ray(recipe.ray.address)
    from actors.control.starter import end_all

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "CRITICAL", "namespace": _namespace(folder)}
    if recipe.ray.address:
        options["address"] = recipe.ray.address
    else:
        options |= {
            "address": "local",
            "num_cpus": max(recipe.ray.num_cpus, math.ceil(recipe.cpus)),
            "include_dashboard": False,
            "object_store_memory": recipe.ray.object_store_bytes,
            "_temp_dir": str(guard.folder / "ray"),
        }
    try:
        _join(ray, options, interrupts)
    except Exception as error:  # Ray raises bare exceptions
        if recipe.ray.address:
            raise not_joined(recipe.ray.address, error) from error
        raise RunError(f"Ray did not start: {error} Try again when the machine has less to do.") from error
    finally:
        interrupts.take_back()  # Ray handles SIGTERM in ways of its own, one of which prints a stack of C++
    try:
        if not recipe.ray.address:
            require_gpus(recipe, ray.cluster_resources().get("GPU", 0.0))
        else:
            end_all()
        yield
    finally:
        if recipe.ray.address:
            end_all()
        else:
            threading.Thread(target=_end_cluster, args=(ray, guard), name="cluster-end", daemon=True).start()
        ray.shutdown()


def imported_ray(address: str | None) -> Any:
    """Ray, which reads when it is imported how often it is to try to reach the head of a named cluster."""
    if address:
        os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", str(HEAD_ATTEMPTS))
    import ray

    return ray


def not_joined(address: str, error: Exception) -> RunError:
    """Ray says of a head that hangs what it says of one that is not there."""
    return RunError(
        f"the cluster at {address} cannot be joined: {error} Its head may hang: see what `ray health-check --address "
        f"{address}` says there."
    )


def _namespace(folder: Path) -> str:
    """A name that only this run folder has, also where another machine has a folder of the same path."""
    path = folder / NAMESPACE
    if not path.exists():
        write_atomically(path, f"leeway-{secrets.token_hex(8)}")
    return path.read_text()


def _join(ray: Any, options: Mapping[str, Any], interrupts: Interrupts) -> None:
    """`ray.init`; once more for a cluster of our own: Ray gives its processes 30 s to start, which a busy machine
    exceeds."""
    # Ray's agents import its dashboard, which nobody asked for, unless it seems not to be installed. That takes each of
    # them seconds of CPU time, and Ray gives up where they are not up after 15 s.
    sys.modules["ray.dashboard.optional_deps"] = cast("ModuleType", None)
    try:
        ray.init(**options)
    except Exception as error:
        if interrupts.received is not None or options["address"] != "local":
            raise
        log.warning("Ray did not start, and is started once more: %s", error)
        ray.shutdown()
        ray.init(**options)
    finally:
        del sys.modules["ray.dashboard.optional_deps"]


def require_gpus(recipe: Recipe, offered: float) -> None:
    """Raises RunError where the pools would wait for GPUs that this machine does not have."""
    roles = ("generator", "verifier", "scorer", "learner")
    asked = sum(resources(recipe, role).gpus * processes(recipe, role) for role in roles)
    if asked > offered:
        shown = os.environ.get("CUDA_VISIBLE_DEVICES")
        hidden = "" if shown is None else f" (CUDA_VISIBLE_DEVICES is {shown!r})"
        raise RunError(
            f"the pools ask for {asked:g} GPUs (generators.gpus, scorers.gpus, learner.gpus), and this machine offers "
            f"{offered:g}{hidden}; lower them, or name a cluster in ray.address"
        )


def _end_cluster(ray: Any, guard: Guard) -> None:
    """End the processes of a cluster of our own once this process has left it.

    Ray asks each of them with SIGTERM, which they do not hear (see `Interrupts.deferred`), and waits a second for it.
    """
    if not until(lambda: not ray.is_initialized(), LEAVE_SECONDS, LEAVING_SECONDS):
        log.warning(
            "Ray has not let this process go within %g s; its own processes, which hang, are killed", LEAVE_SECONDS
        )
    time.sleep(LEAVING_SECONDS)
    guard.end_processes()
