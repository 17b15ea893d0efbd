"""The controller: starts the pools, watches and replaces their processes, records the run, serves HTTP, ends it all.

run:  start replay ─▶ learner ─▶ generators, verifiers, scorers ─▶ watch until the learner is done ─▶ wind down

A controller that takes the place of one that died adopts the processes that live, starts what is missing, and goes on
with the record of the run where it ends.
"""

import logging
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors import process
from actors.config.recipe import Recipe
from actors.control import overview
from actors.control.fruitless import require_batches
from actors.control.mirroring import Mirroring
from actors.control.recording import Recording, run_info
from actors.control.scaling import Scaling
from actors.control.starter import Starter
from actors.control.status import Server
from actors.control.supervisor import POOLED, Exit, Supervised, Supervisor
from actors.control.watch import Watch
from actors.control.whereabouts import Whereabouts, forget, whereabouts
from actors.control.wind_down import Budget, carry_out
from actors.errors import RunError
from actors.events import Phase, Restart, Unresponsive
from actors.models import located
from actors.observability import metrics
from actors.report import health, page
from actors.report.recorder import BEGINNING, ENDING, RunRecorder
from actors.report.summary import ENDS
from actors.roles.role import Storage, enter
from actors.storage.mark import require_mark
from actors.transport.keys import ensure_token
from actors.weights.bandwidth import bandwidth

log = logging.getLogger(__name__)

#: The processes are told that they have a controller so many times within `controller.orphan_seconds`.
WORDS = 10


@dataclass(frozen=True, slots=True)
class Predecessor:
    """The controller whose place this one takes.

    Attributes:
        fault: died or hung.
        reason: in a few words.
        seen: when that was seen (s since 1970, since another process has seen it).
    """

    fault: str
    reason: str
    seen: float


class Controller:
    """`run` is the whole life of a run; the other methods may be called meanwhile, from other threads."""

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        models: Path,
        checkpoint: Path | None,
        step: int,
        starter: Starter,
        predecessor: Predecessor | None = None,
        mark: str = "",
    ) -> None:
        require_mark(folder, mark, recipe.controller.startup_seconds)
        self._recipe, self._folder, self._models = recipe, folder, models
        self._checkpoint, self._mark = checkpoint, mark
        self._presence = enter(recipe, folder, "controller", "controller")
        metrics.RUN.info(overview.run_labels(recipe, folder))
        if (network := bandwidth(recipe.output)) is not None:
            metrics.NETWORK_BANDWIDTH.set(network.bytes_per_second)
        self._stopping = threading.Event()
        self._starter, self._predecessor = starter, predecessor
        self._mirroring = Mirroring(recipe.storage, folder, self._stopping.is_set)
        self._supervisor: Supervisor | None = None
        self._coming: list[tuple[Supervised, str]] = []
        self._told, self._warned = 0.0, set[str]()
        resumed_at, midway = step if checkpoint else None, predecessor is not None
        recorder = RunRecorder(run_info(recipe, folder), resumed_at, continued=midway)
        self._recording = Recording(recorder, away_seconds=time.time() - predecessor.seen if predecessor else 0.0)
        self._watch = Watch(recipe, self._recording, midway)
        self._scaling = Scaling(recipe, folder, midway)
        known, everything = whereabouts(folder), recipe.network.http_token == "everything"
        before = (known.url if known else "") if midway else None
        self._server = Server(self, self._presence.node, ensure_token(folder), everything, before)

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
            if self._predecessor is None:
                self._recording.add(BEGINNING)
            self._start()
            end = "finished" if self._until_done() else "interrupted"
        except Exception as error:
            detail = str(error) or type(error).__name__
            raise
        finally:
            broken = self._wind_down(end, detail)
        if broken:
            raise RunError(f"the run {end}, but {broken[0]}; see {self._folder}/logs/controller.log")

    def _start(self) -> None:
        recipe = self._recipe
        model = located(recipe.model, self._models, recipe.seed)
        self._supervisor = Supervisor(recipe, Storage(self._folder, model, self._checkpoint, self._mark), self._starter)
        self._watch.over(self._supervisor)
        if self._predecessor is None:
            self._begin(self._supervisor)
        else:
            self._take_over(self._supervisor, self._predecessor)

    def _begin(self, supervisor: Supervisor) -> None:
        for shard in supervisor.fill("replay", self._scaling.count("replay")):
            if (described := supervisor.wait_ready(shard, self._stopping.is_set)) is None:
                return
            self._found_replay(shard, described.address)
        for role in ("learner", "generator", "verifier", "scorer"):
            supervisor.fill(role, self._scaling.count(role))
        for started in supervisor.processes():
            if supervisor.wait_ready(started, self._stopping.is_set) is None:
                return

    def _take_over(self, supervisor: Supervisor, predecessor: Predecessor) -> None:
        """Adopt what lives, and start what is missing. Nothing is waited for: whoever hangs is found as ever."""
        now = time.monotonic() - (time.time() - predecessor.seen)
        self._watch.seen("controller", "controller", predecessor.fault, now)
        self._restarted("controller", "controller", predecessor.reason)
        known = whereabouts(self._folder)
        supervisor.replay = known.replay if known else ""
        adopted = supervisor.adopt(self._recording.replaced())
        log.warning("adopted: %s", ", ".join(p.name for p in adopted) or "nobody")
        leaving = self._scaling.adopted(adopted, time.monotonic())
        for role in ("replay", "learner", "generator", "verifier", "scorer"):
            fresh = supervisor.fill(role, self._scaling.count(role) + leaving[role])
            if role == "replay":
                self._take_over_replay(supervisor, fresh)
            for started in fresh:
                self._watch.seen(role, started.account, "died", now)
                self._restarted(role, started.name, "it ended while there was no controller")
                self._take_place(started.name, [started])
        self._say_where()

    def _take_over_replay(self, supervisor: Supervisor, fresh: Collection[Supervised]) -> None:
        for shard in [p for p in supervisor.processes() if p.role == "replay"]:
            if not supervisor.shards[shard.rank]:
                if (described := supervisor.wait_ready(shard, self._stopping.is_set)) is None:
                    continue
                supervisor.shards[shard.rank] = described.address
            self._watch.shards[shard.rank].found(supervisor.shards[shard.rank])
            if shard in fresh:
                self._watch.lost_replay(shard.rank)

    def _restarted(self, role: str, name: str, reason: str) -> None:
        metrics.RESTARTS.labels(role).inc()
        self._recording.add(Restart(role=role, member=name, reason=reason))

    def _until_done(self) -> bool:
        """Until the learner is done (True) or a stop is asked for (False)."""
        assert self._supervisor is not None
        while not self._stopping.is_set():
            for exit_ in self._supervisor.exited(self._recipe.controller.interval_seconds):
                if exit_.process.role == "learner" and exit_.reason is None:
                    if exit_.process.name == "learner":
                        self._watch.works("learner")
                        return True
                    continue  # the other ranks are done before the first, which evaluates
                self._ended(exit_)
            self._keep_in_touch()
            self._watch.pull_events()
            self._watch.tick()
            self._recording.add_all(self._mirroring.news())
            for name, reason in self._watch.overdue().items():
                if name in self._watch.overdue():  # the ranks of a learner are replaced together, and may be by now
                    self._ended(self._supervisor.end(name, reason))
            self._try_vacancies()
            self._scale(self._supervisor)
            self._warn()
            require_batches(self._recipe, self._recording.state, self._folder)
        return False

    def _ended(self, exit_: Exit) -> None:
        if exit_.process.name in self._scaling.leaving:
            exit_.process.process.kill()  # its work is done in a process that lives on, and holds what it reserved
            self._scaling.left(exit_.process.name)
            self._watch.forget(exit_.process.name)
        else:
            self._replace(exit_)

    def _scale(self, supervisor: Supervisor) -> None:
        """Bring the pools to the size that they are to have."""
        if self._recording.state.phase.name == "training":  # else there is no batch that the learner could wait for
            self._scaling.follow(self._watch.status, self._watch.busy, self._watch.members, time.monotonic())
        started, late = self._scaling.step(supervisor, time.monotonic())
        for name in late:
            self._ended(supervisor.end(name, "it did not leave in time"))
        self._expect(started)

    def _replace(self, exit_: Exit) -> None:
        """Raises RunError where no other process can take the place."""
        assert self._supervisor is not None
        name, role = exit_.process.name, exit_.process.role
        account = exit_.process.account
        left = exit_.reason is None and role in POOLED  # of its own accord, as where its node is taken away
        if not left:
            self._watch.seen(role, account, "hung" if exit_.hung else "died", time.monotonic())
        if role == "replay":
            self._watch.lost_replay(exit_.process.rank)
        if self._watch.last_report(name).ready:  # it may have come up and ended between two looks
            self._supervisor.was_up(exit_.process)
        fresh = self._supervisor.replace(exit_)
        reason = exit_.reason or ("it left" if left else "it ended by itself")
        if not fresh:
            self._watch.forget(name)
            if role == "learner":  # they were, by another one's exit
                return
            detail = f"it did not come up, and its place stays empty for now: {reason}"
            self._recording.add(Unresponsive(role=role, member=name, state="lost", detail=detail))
            return
        for gone in {name} | {started.name for started in fresh if started.role == "learner"}:
            self._watch.forget(gone)
        self._restarted(role, name, reason)
        self._take_place(account, fresh)

    def _take_place(self, name: str, fresh: Collection[Supervised]) -> None:
        self._expect(fresh)
        for started in fresh:
            if started.role in POOLED:
                self._watch.replaced(name, started.name)

    def _expect(self, fresh: Collection[Supervised]) -> None:
        """They take a while to come up, and the run goes on meanwhile; this only logs where they do not."""
        for started in fresh:
            name = f"ready-{started.name}"
            threading.Thread(target=self._await_ready, args=(started,), name=name, daemon=True).start()

    def _await_ready(self, fresh: Supervised) -> None:
        assert self._supervisor is not None
        try:
            described = self._supervisor.wait_ready(fresh, self._stopping.is_set)
        except RunError as error:
            log.warning("%s", error)
            return
        if fresh.role == "replay" and described is not None:
            self._coming.append((fresh, described.address))  # which the thread that watches takes from there

    def _try_vacancies(self) -> None:
        assert self._supervisor is not None
        for name, started in self._supervisor.try_vacancies().items():
            log.info("the place of %s is tried again, by %s", name, started.name)
            self._recording.add(
                Unresponsive(role=started.role, member=name, state="back", detail=f"{started.name} takes its place")
            )
            self._take_place(name, [started])

    def _wind_down(self, end: str, detail: str) -> list[str]:
        """Graceful shutdown; a step that fails is logged, and the next one is taken all the same.

        Returns:
            What failed, in words; empty where nothing did.
        """
        budget = Budget(self._recipe.controller.wind_down_seconds)
        self._watch.wind_down(budget)

        def stop(share: float, *roles: str) -> None:
            if self._supervisor is not None:
                self._supervisor.stop(*roles, seconds=budget.until(share))

        return carry_out(
            ("taking over what has happened", self._watch.pull_events),
            ("saying that it ends", lambda: self._recording.add(ENDING)),
            ("stopping the learner", lambda: stop(0.6, "learner")),
            ("taking over its last events", self._watch.pull_events),
            ("stopping the other pools", lambda: stop(0.8, "generator", "verifier", "scorer")),
            ("taking over their last events", self._watch.pull_events),
            ("reading the last counters", self._watch.tick),
            ("stopping the replay", lambda: stop(0.9, "replay")),
            ("mirroring the run", lambda: self._mirroring.settle(end == "finished", budget.until(0.95))),
            ("recording what of it failed", lambda: self._recording.add_all(self._mirroring.news())),
            ("recording the end", lambda: self._recording.add(Phase(name=end, detail=detail))),
            ("closing the connections to the replay", self._watch.close),
            ("closing the run's files", self._recording.close),
            ("mirroring its record", lambda: self._mirroring.settle(end == "finished", budget.until(1.0))),
            ("ending the mirroring", self._mirroring.close),
            ("taking away its address", lambda: forget(self._folder)),
            ("closing the status page", self._server.close),
        )

    def _found_replay(self, shard: Supervised, address: str) -> None:
        assert self._supervisor is not None
        moved = address != self._supervisor.shards[shard.rank]
        self._supervisor.shards[shard.rank] = address
        self._watch.shards[shard.rank].found(address)
        self._supervisor.came_up(shard.name)
        self._watch.announce_shards(self._supervisor.shards)
        if moved:
            self._say_where()
            self._supervisor.tell_all()

    def _keep_in_touch(self) -> None:
        """Take up shards of the replay that have come up again, and let everybody know that there is a controller."""
        assert self._supervisor is not None
        while self._coming:
            self._found_replay(*self._coming.pop())
        if time.monotonic() - self._told > self._recipe.controller.orphan_seconds / WORDS:
            self._told = time.monotonic()
            self._supervisor.tell_all()
            self._watch.announce_shards(self._supervisor.shards)

    def _say_where(self) -> None:
        replay = self._supervisor.replay if self._supervisor else ""
        try:
            Whereabouts(url=self._server.url, replay=replay, instance=self._server.instance).write(self._folder)
        except OSError as error:
            log.warning("the run folder does not say where its controller is: %s", error)

    # ---------------------------------------------------------------- what is wrong with the run

    def _warn(self) -> None:
        """Log and export the health warnings that hold; displays and reports find them by themselves."""
        state = self._recording.state
        found = {warning.symptom: warning for warning in health.warnings(state)}
        for symptom in found.keys() - self._warned:
            log.warning("%s: %s %s", symptom, found[symptom].text, found[symptom].fix)
        for symptom in found.keys() | self._warned:
            metrics.WARNING.labels(symptom).set(symptom in found)
        self._warned = set(found)
        for role in ("generator", "verifier", "scorer", "learner", "replay"):
            metrics.UNRESPONSIVE.labels(role).set(sum(e.role == role for e in state.unresponsive.values()))

    # ---------------------------------------------------------------- what HTTP shows (StatusSource)

    def ready(self) -> bool:
        """Whether the run trains, and somebody of every pool is at work."""
        with self._recording.reading() as state:
            step, phase = state.step, state.phase.name
        up = {member["role"] for member in self._watch.members if member["report"]["ready"]}
        wanted = {role for role in overview.POOLS if self._scaling.count(role)}
        return step > 0 and phase not in (ENDING.name, *ENDS) and up >= wanted

    def status(self) -> dict[str, Any]:
        wanted = {role: self._scaling.count(role) for role in overview.POOLS}
        ours = {started.name for started in (self._supervisor.processes() if self._supervisor else ())}
        with self._recording.reading() as state:
            return overview.status(state, self._watch, wanted, ours, self._scaling.leaving)

    def scale(self, pool: str, count: int) -> dict[str, int]:
        """Change how many processes there are to be of a pool; returns the counts of all pools.

        Raises:
            RecipeError: there is no such pool, or the count will not do.
        """
        return self._scaling.want(pool, count)

    def targets(self) -> list[dict[str, Any]]:
        own = {"name": "controller", "role": "controller", "report": {"metrics": self._server.address}}
        return overview.targets((own, *self._watch.members), self._folder.name)

    def parts(self) -> dict[str, str]:
        with self._recording.reading() as state:
            return page.parts(state, self.status())
