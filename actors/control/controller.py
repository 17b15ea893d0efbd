"""The controller: starts the pools, watches and replaces their processes, records the run, serves HTTP, ends it all.

run:  start replay ─▶ learner ─▶ generators, verifiers ─▶ watch until the learner is done ─▶ wind down
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from actors import process
from actors.config.loading import dump
from actors.config.recipe import Recipe
from actors.control.liveness import Liveness, Seen
from actors.control.placement import processes
from actors.control.recording import Recording
from actors.control.starter import Starter
from actors.control.status import Server
from actors.control.supervisor import REPLACEABLE, Exit, Supervised, Supervisor, what_next
from actors.control.utilisation import Utilisation
from actors.errors import PeerTimeoutError, ProtocolError, RunError
from actors.events import GroupCounters, Phase, Restart, Tick, Unresponsive
from actors.membership import Report, Totals
from actors.models import prepare
from actors.observability import metrics
from actors.report import advice
from actors.report.health import warnings
from actors.report.html import render
from actors.report.recorder import RunRecorder
from actors.report.state import IDLE_SHARE, RunInfo
from actors.roles.role import Storage, enter
from actors.transport.client import Client
from actors.transport.keys import ensure_token

log = logging.getLogger(__name__)

#: Longest wait for the replay to say how things are (s); the next look comes soon.
REPLAY_SECONDS = 5.0


class Controller:
    """`run` is the whole life of a run; the other methods may be called meanwhile, from other threads."""

    def __init__(
        self, recipe: Recipe, folder: Path, models: Path, checkpoint: Path | None, step: int, starter: Starter
    ) -> None:
        self._recipe, self._folder, self._models, self._checkpoint = recipe, folder, models, checkpoint
        self._presence = enter(recipe, folder, "controller")
        self._stopping = threading.Event()
        self._starter = starter
        self._supervisor: Supervisor | None = None
        self._client: Client | None = None
        self._seen = 0
        self._winding_down = self._replay_silent = False
        self._replay_heard = time.monotonic()
        self._liveness = Liveness(recipe)
        self._warned: set[str] = set()
        self._utilisation = Utilisation(time.monotonic())
        self._status: dict[str, Any] = {}
        self._members: list[dict[str, Any]] = []
        resumed_at = step if checkpoint else None
        self._recording = Recording(RunRecorder(run_info(recipe, folder), resumed_at=resumed_at))
        everything = recipe.network.http_token == "everything"
        self._server = Server(self, self._presence.node, ensure_token(folder), everything)

    def describe(self) -> dict[str, Any]:
        return {"url": self._server.url}

    def stop(self) -> None:
        self._stopping.set()

    def events(self, after: int) -> tuple[list[dict[str, Any]], int]:
        """The events after the first `after`, as dictionaries, and how many there are by now; for displays."""
        return self._recording.after(after)

    # ---------------------------------------------------------------- the life of a run

    @process.logged
    def run(self) -> None:
        """Run until the learner is done or `stop` is called.

        Raises:
            RunError: the run failed, or ended but could not be wound down; everything is recorded and ended by then.
        """
        end, detail = "failed", ""
        try:
            self._recording.add(Phase(name="starting", detail="preparing the model"))
            self._start()
            end = "finished" if self._watch() else "interrupted"
        except Exception as error:
            detail = str(error) or type(error).__name__
            raise
        finally:
            broken = self._wind_down(end, detail)
        if broken:
            raise RunError(f"the run {end}, but {broken[0]}; see {self._folder}/logs/controller.log")

    def _start(self) -> None:
        recipe = self._recipe
        model = prepare(recipe.model, self._models, recipe.seed)
        supervisor = Supervisor(recipe, Storage(self._folder, model, self._checkpoint), self._starter)
        self._supervisor = supervisor
        supervisor.replay = supervisor.wait_ready(supervisor.start("replay")).address
        self._client = Client(supervisor.replay, "controller", "controller")
        for rank in range(processes(recipe, "learner")):
            supervisor.start("learner", rank)
        for role in ("generator", "verifier"):
            for _ in range(processes(recipe, role)):
                supervisor.start(role)
        for started in supervisor.processes():
            if self._stopping.is_set():
                return
            supervisor.wait_ready(started)

    def _watch(self) -> bool:
        """Until the learner is done (True) or a stop is asked for (False)."""
        assert self._supervisor is not None
        while not self._stopping.is_set():
            for exit_ in self._supervisor.exited(self._recipe.controller.interval_seconds):
                if exit_.process.role == "learner" and exit_.reason is None:
                    if exit_.process.name == "learner":
                        return True
                    continue  # the other ranks are done before the first, which evaluates
                self._replace(exit_)
            self._pull_events()
            self._tick()
            for name, reason in self._liveness.overdue().items():
                self._replace(self._supervisor.end(name, reason))
            self._warn()
            self._require_batches()
        return False

    def _replace(self, exit_: Exit) -> None:
        """Raises RunError where no other process can take the place."""
        assert self._supervisor is not None
        name, role = exit_.process.name, exit_.process.role
        self._look()  # whether it came up may be known by its last report alone
        if role == "learner" and self._replay_silent:
            silent = time.monotonic() - self._replay_heard
            raise RunError(
                f"the replay hangs: it has not answered for {silent:.0f} s, and the learner ended over it "
                f"({exit_.reason}); see {self._folder}/logs/replay.log, then {what_next(self._folder)}"
            )
        fresh = self._supervisor.replace(exit_)
        self._liveness.forget(name)
        self._ask("remove_member", {"name": name})
        reason = exit_.reason or "it ended by itself"
        if fresh is None:
            detail = f"it did not come up, and its place stays empty: {reason}"
            self._recording.add(Unresponsive(role=role, member=name, state="lost", detail=detail))
            return
        metrics.RESTARTS.labels(role).inc()
        self._recording.add(Restart(role=role, member=name, reason=reason))
        # It takes a while to come up, and the run goes on meanwhile; this only logs where it does not.
        threading.Thread(target=self._await_ready, args=(fresh,), name=f"ready-{fresh.name}", daemon=True).start()

    def _await_ready(self, fresh: Supervised) -> None:
        assert self._supervisor is not None
        try:
            self._supervisor.wait_ready(fresh)
        except RunError as error:
            log.warning("%s", error)

    def _wind_down(self, end: str, detail: str) -> list[str]:
        """Graceful shutdown; a step that fails is logged, and the next one is taken all the same.

        Returns:
            What failed, in words; empty where nothing did.
        """
        self._winding_down = True
        stop = self._supervisor.stop if self._supervisor is not None else lambda *_: None
        steps: list[tuple[str, Callable[[], object]]] = [
            ("stopping the learner", lambda: stop("learner")),
            ("taking over its last events", self._pull_events),
            ("stopping generators and verifiers", lambda: stop("generator", "verifier")),
            ("taking over their last events", self._pull_events),
            ("reading the last counters", self._tick),
            ("stopping the replay", lambda: stop("replay")),
            ("recording the end", lambda: self._recording.add(Phase(name=end, detail=detail))),
            ("closing the connection to the replay", lambda: self._client.close() if self._client else None),
            ("closing the run's files", self._recording.close),
            ("closing the status page", self._server.close),
        ]
        broken = []
        for name, step in steps:
            try:
                step()
            except Exception as error:
                log.exception("winding down: %s failed", name)
                broken.append(f"{name} failed: {type(error).__name__}: {error}")
        return broken

    # ---------------------------------------------------------------- what the replay says

    def _ask(self, kind: str, body: Mapping[str, Any] | None = None) -> Mapping[str, Any] | None:
        """A request to the replay; None where there is none yet, or where it does not answer now."""
        if self._client is None or (self._winding_down and self._replay_silent):
            return None
        try:
            reply = self._client.request(kind, body, deadline_seconds=REPLAY_SECONDS).body
            self._replay_silent, self._replay_heard = False, time.monotonic()
            return reply
        except (PeerTimeoutError, ProtocolError) as error:
            # While winding down every wait counts: the driver kills a controller that takes too long.
            self._replay_silent = isinstance(error, PeerTimeoutError)
            log.warning("%s", error)
            return None

    def _pull_events(self) -> None:
        reply = self._ask("events", {"after": self._seen})
        if reply:
            self._recording.add_received(reply["events"])
            self._seen = reply["last"]

    def _tick(self) -> None:
        """Record busy shares, rates and queues since the last tick, and who does not work."""
        # A replay that did not answer the first is not asked the second.
        if (status := self._ask("status")) is None or (listed := self._look()) is None:
            self._hear([], [])
            return
        self._status = dict(status)
        totals = {role: Totals(**fields) for role, fields in listed["totals"].items()}
        present = {member["role"] for member in self._members}
        self._utilisation.observe(totals, time.monotonic(), absent=totals.keys() - present)
        in_flight = sum(member["report"]["groups_in_flight"] for member in self._members)
        queues = self._status["queues"] | {"generating": in_flight}
        busy = self._utilisation.busy
        self._recording.add(
            Tick(
                interval_seconds=self._utilisation.interval_seconds,
                queues=queues,
                busy=busy,
                waits=waits(busy, queues),
                tokens_per_second=self._utilisation.tokens_per_second,
                groups=GroupCounters(**self._status["groups"]),
                refusals=self._status["refusals"],
            )
        )

    def _look(self) -> Mapping[str, Any] | None:
        """Ask who is on the list of members, and take note of who came up, is silent or stuck."""
        listed = self._ask("members")
        if listed is not None:
            self._members = list(listed["members"])
            self._hear(listed["members"], listed["silent"])
        return listed

    def _hear(self, alive: Iterable[Mapping[str, Any]], silent: Iterable[Mapping[str, Any]]) -> None:
        if self._supervisor is None or self._winding_down:
            return
        supervised = {process.name for process in self._supervisor.processes()}
        there, away = ([_seen(m) for m in members if m["name"] in supervised] for members in (alive, silent))
        unanswered = time.monotonic() - self._replay_heard
        if self._replay_silent and unanswered > self._recipe.membership.timeout_seconds:
            away.append(Seen("replay", "replay", unanswered, Report(ready=True)))
        for event in self._liveness.observe(there, away):
            log.warning("%s is %s: %s", event.member, event.state, event.detail)
            self._recording.add(event)
        for seen in there:
            if seen.report.ready:
                self._supervisor.came_up(seen.name)

    # ---------------------------------------------------------------- what is wrong with the run

    def _warn(self) -> None:
        """Log and export the health warnings that hold; displays and reports find them by themselves."""
        state = self._recording.state
        found = {warning.symptom: warning for warning in warnings(state)}
        for symptom in found.keys() - self._warned:
            log.warning("%s: %s %s", symptom, found[symptom].text, found[symptom].fix)
        for symptom in found.keys() | self._warned:
            metrics.WARNING.labels(symptom).set(symptom in found)
        self._warned = set(found)
        for role in ("generator", "verifier", "learner", "replay"):
            metrics.UNRESPONSIVE.labels(role).set(sum(e.role == role for e in state.unresponsive.values()))

    def _require_batches(self) -> None:
        """Raises RunError where so many groups were dropped without a batch that there is no hope for one."""
        recipe, state = self._recipe, self._recording.state
        most = recipe.controller.fruitless_batches * recipe.replay.groups_per_batch
        dropped = state.fruitless
        if most and sum(dropped.values()) >= most:
            raise RunError(
                f"{sum(dropped.values())} groups were dropped in a row without one batch coming together "
                f"({advice.by_reason(dropped)}), which ends the run by controller.fruitless_batches: "
                f"{recipe.controller.fruitless_batches}. {advice.on_drops(dropped, state.refusals)} Then "
                f"{what_next(self._folder)}"
            )

    # ---------------------------------------------------------------- what HTTP shows (StatusSource)

    def ready(self) -> bool:
        return self._recording.state.step > 0

    def status(self) -> dict[str, Any]:
        state = self._recording.state
        return {
            "recipe": self._recipe.name,
            "folder": str(self._folder),
            "phase": state.phase.name,
            "step": state.step,
            "steps": self._recipe.steps,
            "replay": self._status,
            "members": {member["name"]: member for member in self._members},
            "joined": [member["name"] for member in self._members if self._joined(member)],
            "unresponsive": {name: event.detail for name, event in tuple(state.unresponsive.items())},
            "restarts": self._supervisor.restarts if self._supervisor else 0,
        }

    def _joined(self, member: Mapping[str, Any]) -> bool:
        """Whether a generator or verifier was started by somebody else: it is counted, and never replaced."""
        ours = {process.name for process in self._supervisor.processes()} if self._supervisor else set()
        return member["role"] in REPLACEABLE and member["name"] not in ours

    def targets(self) -> list[dict[str, Any]]:
        own = {"name": "controller", "role": "controller", "report": {"metrics": self._server.address}}
        return [
            {"targets": [member["report"]["metrics"]], "labels": self._labels(member["role"], member["name"])}
            for member in (own, *self._members)
            if member["report"]["metrics"]
        ]

    def _labels(self, role: str, name: str) -> dict[str, str]:
        return {"role": role, "member": name, "run": self._folder.name}

    def page(self) -> str:
        return render(self._recording.state)


def _seen(member: Mapping[str, Any]) -> Seen:
    return Seen(member["name"], member["role"], member["silent_seconds"], Report(**member["report"]))


def waits(busy: Mapping[str, float], queues: Mapping[str, int]) -> dict[str, str]:
    """What each pool that did little waits for."""
    reasons = {
        "generator": "the learner (staleness bound)" if queues["ready"] else "weights or tasks",
        "verifier": "" if queues["generated"] else "completions",
        "learner": "a full batch",
    }
    return {role: reason for role, reason in reasons.items() if reason and busy[role] < IDLE_SHARE}


def run_info(recipe: Recipe, folder: Path) -> RunInfo:
    """What displays and reports know of a run before it starts."""
    return RunInfo(
        recipe=recipe.name,
        seed=recipe.seed,
        folder=folder,
        total_steps=recipe.steps,
        max_staleness=recipe.replay.max_staleness,
        groups_per_batch=recipe.replay.groups_per_batch,
        configuration=dump(recipe),
    )
