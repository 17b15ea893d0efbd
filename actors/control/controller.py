"""The controller: starts the pools, watches and restarts them, records the run, serves HTTP, ends everything."""

import logging
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray

from actors import process
from actors.config.recipe import Recipe, dump, parse
from actors.control.status import Server
from actors.control.supervisor import Member, Pool
from actors.errors import PeerTimeoutError, RunError
from actors.events import EVENT, Event
from actors.models import prepare
from actors.observability import metrics
from actors.observability.scrape import Reading, busy_shares, rate, read
from actors.report.html import render
from actors.report.recorder import RunRecorder
from actors.report.state import RunInfo
from actors.roles.generator import Generator
from actors.roles.learner.learner import Learner
from actors.roles.learner.rendezvous import member_name
from actors.roles.replay import ReplayRole
from actors.roles.role import RoleContext, Storage
from actors.roles.verifier.verifier import Verifier
from actors.transport.client import Client

log = logging.getLogger(__name__)

ROLES = ("generator", "verifier", "learner")


class Controller:
    """`run` is the whole life of a run; the other methods may be called meanwhile."""

    def __init__(self, recipe: Mapping[str, Any], folder: Path, models: Path, resume: Path | None, step: int) -> None:
        self._recipe: Recipe = parse(dict(recipe), "recipe.yaml")
        self._folder, self._models, self._resume, self._resumed_at = folder, models, resume, step
        process.begin("controller", folder, self._recipe.controller.host)
        self._stopping = threading.Event()
        self._pool = Pool()
        self._client: Client | None = None
        self._events: list[dict[str, Any]] = []
        self._seen = 0
        self._restarts = 0
        self._incarnations = 0
        self._readings: dict[str, Reading] = {}
        self._read_at = time.monotonic()
        self._status: dict[str, Any] = {}
        self._recorder = RunRecorder(run_info(self._recipe, folder), resumed_at=step if resume else None)
        self._origin = time.monotonic() - self._recorder.state.seconds
        self._server = Server(self, self._recipe.controller.host, self._recipe.controller.port)

    def describe(self) -> dict[str, Any]:
        return {"port": self._server.port}

    def stop(self) -> None:
        self._stopping.set()

    def events(self, after: int) -> list[dict[str, Any]]:
        """All events after the first `after`, as dictionaries; for displays."""
        return self._events[after:]

    # ---------------------------------------------------------------- the life of a run

    @process.logged
    def run(self) -> None:
        """Raises RunError, or what broke the learner, once everything is recorded and ended."""
        end, detail = "failed", ""
        try:
            self._record({"kind": "phase", "name": "starting", "detail": "preparing the model"})
            self._start()
            finished = self._watch()
            end = "finished" if finished else "interrupted"
        except RunError as error:
            detail = str(error)
            raise
        finally:
            self._pool.stop(self._pool.of("learner"))
            self._drain()
            self._pool.stop(self._pool.of("generator", "verifier"))
            self._drain()
            self._tick()
            self._pool.stop(self._pool.of("replay"))
            self._record({"kind": "phase", "name": end, "detail": detail})
            self._recorder.close()
            self._server.close()

    def _start(self) -> None:
        recipe = self._recipe
        self._model = prepare(recipe.model, self._models, recipe.seed)
        context = RoleContext(recipe, "replay", Storage(self._folder, checkpoint=self._resume))
        replay = self._pool.spawn("replay", "replay", ReplayRole, (context,), cpus=0)
        self._address = self._pool.describe(replay)["address"]
        self._client = Client(self._address, "controller", "controller")
        self._spawn_learner(self._resume)
        for _ in range(recipe.generators.count):
            self._spawn_generator()
        for _ in range(recipe.verifiers.count):
            self._spawn_verifier()
        for member in list(self._pool.members.values()):
            self._pool.describe(member)

    def _name(self, role: str) -> str:
        self._incarnations += 1
        return f"{role}-{self._incarnations}"

    def _spawn_learner(self, resume: Path | None) -> None:
        recipe = self._recipe
        for rank in range(recipe.learner_ranks):
            arguments = (recipe, self._address, self._model, self._folder, resume, rank)
            self._pool.spawn("learner", member_name(rank), Learner, arguments, recipe.learner_cpus, recipe.learner_gpus)

    def _spawn_generator(self) -> Member:
        name, recipe = self._name("generator"), self._recipe
        seed = recipe.seed * 1000 + self._incarnations
        arguments = (recipe, name, self._address, self._model, self._folder, seed)
        g = recipe.generators
        tensor_parallel = g.vllm.tensor_parallel_size
        return self._pool.spawn("generator", name, Generator, arguments, g.cpus, g.gpus * tensor_parallel)

    def _spawn_verifier(self) -> Member:
        name = self._name("verifier")
        arguments = (self._recipe, name, self._address, self._folder)
        return self._pool.spawn("verifier", name, Verifier, arguments, self._recipe.verifiers.cpus)

    # ---------------------------------------------------------------- watching

    def _watch(self) -> bool:
        """Until the learner is done (True) or a stop is asked for (False)."""
        while not self._stopping.is_set():
            for member, reason in self._pool.fallen(self._recipe.controller.interval_seconds):
                if member.role == "learner" and reason is None:
                    if member.name == member_name(0):
                        return True
                    continue  # the other ranks are done before the first, which evaluates
                self._replace(member, reason or "it ended by itself")
            self._drain()
            self._tick()
        return False

    def _replace(self, member: Member, reason: str) -> None:
        """Start another generator or verifier in the place of one that died. Raises RunError where that is no use."""
        if member.role not in ("generator", "verifier"):
            raise RunError(
                f"the {member.role} died: {reason}; see {self._folder}/logs/{member.name}.log, then go on with "
                f"`leeway run --resume {self._folder}`"
            )
        if self._restarts >= self._recipe.controller.restarts:
            raise RunError(
                f"{member.name} died ({reason}) after {self._restarts} restarts; see {self._folder}/logs/"
                f"{member.name}.log, or raise controller.restarts"
            )
        self._restarts += 1
        metrics.RESTARTS.labels(member.role).inc()
        self._record({"kind": "restart", "role": member.role, "member": member.name, "reason": reason})
        fresh = self._spawn_generator() if member.role == "generator" else self._spawn_verifier()
        threading.Thread(target=self._introduce, args=(fresh,), daemon=True).start()

    def _introduce(self, member: Member) -> None:
        """Learn where a new actor serves its metrics; it takes a while to start, and the run goes on meanwhile."""
        try:
            self._pool.describe(member)
        except RunError as error:
            log.warning("%s", error)

    # ---------------------------------------------------------------- recording

    def _drain(self) -> None:
        """Take over whatever has happened at the replay."""
        if self._client is None:
            return
        try:
            reply = self._client.request("events", {"after": self._seen}, deadline_seconds=5.0)
        except PeerTimeoutError as error:
            log.warning("%s", error)
            return
        for event in reply.body.get("events", []):
            self._record(event)
        self._seen = reply.body.get("last", self._seen)

    def _record(self, fields: Mapping[str, Any]) -> None:
        event: Event = EVENT.validate_python({**fields, "seconds": time.monotonic() - self._origin})
        self._recorder.record(event)
        self._events.append(event.model_dump(mode="json"))

    def _tick(self) -> None:
        """Busy shares, rates and queues since the last tick."""
        if self._client is None:
            return
        try:
            self._status = dict(self._client.request("status", deadline_seconds=5.0).body)
        except PeerTimeoutError as error:
            log.warning("%s", error)
            return
        host = self._recipe.controller.host
        members = [m for m in self._pool.members.values() if m.metrics_port]
        now = {m.name: reading for m in members if (reading := read(host, m.metrics_port or 0))}
        moment = time.monotonic()
        seconds, before = moment - self._read_at, self._readings
        self._readings, self._read_at = now, moment
        busy = busy_shares(before, now, seconds, ROLES)
        self._record(
            {
                "kind": "tick",
                "interval_seconds": seconds,
                "queues": self._status["queues"] | {"generating": int(sum(r.groups_in_flight for r in now.values()))},
                "busy": busy,
                "waits": self._waits(busy),
                "tokens_per_second": {
                    "generation": rate(before, now, seconds, "generated_tokens"),
                    "learning": rate(before, now, seconds, "trained_tokens"),
                },
                "groups": self._status["groups"],
            }
        )

    def _waits(self, busy: Mapping[str, float]) -> dict[str, str]:
        """What a pool that did little waits for."""
        queues = self._status["queues"]
        waits = {}
        if busy["generator"] < 0.05:
            waits["generator"] = "the learner (staleness bound)" if queues["ready"] else "weights or tasks"
        if busy["verifier"] < 0.05 and not queues["generated"]:
            waits["verifier"] = "completions"
        if busy["learner"] < 0.05:
            waits["learner"] = "a full batch"
        return waits

    # ---------------------------------------------------------------- what HTTP shows (Watched)

    def ready(self) -> bool:
        return self._recorder.state.step > 0

    def status(self) -> dict[str, Any]:
        state = self._recorder.state
        return {
            "recipe": self._recipe.name,
            "folder": str(self._folder),
            "phase": state.phase.name,
            "step": state.step,
            "steps": self._recipe.steps,
            "replay": self._status,
            "members": {name: member.role for name, member in self._pool.members.items()},
            "restarts": self._restarts,
        }

    def targets(self) -> list[dict[str, Any]]:
        host = self._recipe.controller.host
        found = [
            {"targets": [f"{host}:{m.metrics_port}"], "labels": self._labels(m.role, m.name)}
            for m in self._pool.members.values()
            if m.metrics_port
        ]
        own = {"targets": [f"{host}:{self._server.port}"], "labels": self._labels("controller", "controller")}
        return [own, *found]

    def _labels(self, role: str, name: str) -> dict[str, str]:
        return {"role": role, "member": name, "run": self._folder.name}

    def page(self) -> str:
        return render(self._recorder.state)


def run_info(recipe: Recipe, folder: Path) -> RunInfo:
    """What displays and reports know of a run before it starts."""
    return RunInfo(
        recipe=recipe.name,
        seed=recipe.seed,
        folder=folder,
        total_steps=recipe.steps,
        max_staleness=recipe.replay.max_staleness,
        configuration=dump(recipe),
    )


ControllerActor = ray.remote(Controller)
