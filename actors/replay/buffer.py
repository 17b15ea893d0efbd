"""The replay without its socket: ledger, payloads, evaluations and events behind one `answer` function."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import ValidationError

from actors.errors import ProtocolError
from actors.observability import metrics
from actors.replay import messages as m
from actors.replay.evaluation import Evaluation
from actors.replay.ledger import Entry, Ledger, Policy, Reason, State
from actors.replay.payload import Payload
from actors.transport.codec import Array, Message


class TaskSource(Protocol):
    """The problems behind the task numbers, as MessagePack-able dictionaries with a `reference` for the verifier."""

    held_out: int

    def train(self, index: int) -> Mapping[str, Any]: ...

    def evaluate(self, index: int) -> Mapping[str, Any]: ...


@dataclass(slots=True)
class Held:
    """What is kept of a group beside its ledger entry."""

    task: Mapping[str, Any]
    prompt: str = ""
    texts: tuple[str, ...] = ()
    payload: Payload | None = None
    scores: tuple[m.Scored, ...] = ()
    ready_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Reply:
    body: Mapping[str, Any]
    arrays: Mapping[str, Array]


OK = Reply({}, {})
#: The lease is over: the group was given to somebody else, or is not needed any more.
LATE = Reply({"accepted": False}, {})
#: A watcher that falls this far behind has lost the oldest events.
EVENTS_KEPT = 20_000


class Replay:
    """Answers requests one at a time. `answer` returns None where a long poll has nothing to say yet."""

    def __init__(
        self, policy: Policy, group_size: int, tasks: TaskSource, snapshot: Mapping[str, Any] | None = None
    ) -> None:
        self.ledger = Ledger.resume(policy, dict(snapshot)) if snapshot else Ledger(policy)
        self.group_size = group_size
        self.tasks = tasks
        self.held: dict[tuple[str, int], Held] = {}
        self.evaluation: Evaluation | None = None
        self.waiting_evaluations: list[tuple[int, m.Evaluate]] = []
        self.results: dict[int, dict[str, Any]] = {}
        self.evaluations = 0
        self.events: list[dict[str, Any]] = []
        self.events_gone = 0
        self.seen: dict[str, tuple[str, float]] = {}
        self.versions: dict[str, int] = {}
        self.directory: dict[str, str] = {}
        self.since_step: list[list[float]] = []

    # ---------------------------------------------------------------- one request

    def parse(self, message: Message) -> m.Request:
        """Raises ProtocolError where the kind is unknown or the body does not fit it."""
        if message.kind not in m.REQUESTS:
            raise ProtocolError(f"unknown request {message.kind[:40]!r}")
        try:
            return m.REQUESTS[message.kind].model_validate(message.body)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            raise ProtocolError(f"{message.kind}.{'.'.join(map(str, first['loc']))}: {first['msg']}") from error

    def answer(self, request: m.Request, arrays: Mapping[str, Array], now: float) -> Reply | None:
        """Raises ProtocolError for a request that does not fit the state; nothing has changed then."""
        self.seen[request.worker] = (request.role, now)
        match request:
            case m.Lease():
                return self._lease(request, now)
            case m.GroupArrived():
                return self._group_arrived(request, arrays)
            case m.GroupRefused():
                return self._group_refused(request)
            case m.LeaseVerification():
                return self._lease_verification(request, now)
            case m.Verdict():
                return self._verdict(request, now)
            case m.TakeBatch():
                return self._take_batch(request, now)
            case m.Trained():
                return self._trained(request)
            case m.Snapshot():
                return Reply({"snapshot": self.ledger.snapshot(request.version)}, {})
            case m.Committed():
                for ticket in self.ledger.commit(request.version):
                    del self.held["train", ticket]
                return OK
            case m.Evaluate():
                return self._evaluate(request)
            case m.EvaluationResult():
                result = self.results.get(request.evaluation)
                return Reply({"result": result}, {}) if result else None
            case m.Notice():
                self.event(request.event)
                return OK
            case m.Events():
                return self._events(request)
            case m.Status():
                return Reply(self.status(), {})
            case m.Heartbeat():
                if request.version is not None:
                    self.versions[request.worker] = request.version
                return OK
            case m.Announce():
                self.directory[request.service] = request.address
                return OK
            case m.Directory():
                return Reply({"services": self.directory}, {})
        raise ProtocolError(f"{type(request).__name__} has no answer")

    # ---------------------------------------------------------------- generators

    def _lease(self, request: m.Lease, now: float) -> Reply | None:
        tasks = []
        if self.evaluation:
            for entry in self.evaluation.lease(request.worker, request.capacity, now):
                task = self.tasks.evaluate(self.evaluation.task_of(entry))
                tasks.append(self._hold("evaluate", entry, task) | {"samples": self.evaluation.samples})
        if len(tasks) < request.capacity:
            # The generator may have taken an update while its long poll was held back.
            version = max(request.version, self.versions.get(request.worker, 0))
            for entry in self.ledger.lease(request.worker, version, request.capacity - len(tasks), now):
                task = self.tasks.train(entry.task)
                tasks.append(self._hold("train", entry, task) | {"samples": self.group_size})
        return Reply({"tasks": tasks}, {}) if tasks else None

    def _hold(self, purpose: m.Purpose, entry: Entry, task: Mapping[str, Any]) -> dict[str, Any]:
        self.held[purpose, entry.ticket] = Held(task)
        return {"purpose": purpose, "ticket": entry.ticket, "key": task["key"], "messages": task["messages"]}

    def _group_arrived(self, request: m.GroupArrived, arrays: Mapping[str, Array]) -> Reply:
        ledger = self._ledger(request.purpose)
        held = self.held.get((request.purpose, request.ticket))
        if held is None or ledger is None:
            return LATE
        samples = self.evaluation.samples if request.purpose == "evaluate" and self.evaluation else self.group_size
        payload = Payload.of(dict(arrays), samples)
        if len(request.texts) != samples:
            raise ProtocolError(f"{len(request.texts)} texts for {samples} completions")
        if not ledger.group_arrived(request.ticket, payload.oldest, payload.newest):
            return LATE
        held.prompt, held.texts, held.payload = request.prompt, tuple(request.texts), payload
        return Reply({"accepted": True}, {})

    def _group_refused(self, request: m.GroupRefused) -> Reply:
        ledger = self._ledger(request.purpose)
        entry = ledger.entries.get(request.ticket) if ledger else None
        if ledger is None or entry is None or entry.holder != request.worker:
            return LATE
        ledger.drop(request.ticket, Reason(request.reason))
        return Reply({"accepted": True}, {})

    # ---------------------------------------------------------------- verifiers

    def _lease_verification(self, request: m.LeaseVerification, now: float) -> Reply | None:
        groups: list[dict[str, Any]] = []
        for purpose, ledger in self._ledgers():
            for entry in ledger.lease_verification(request.worker, request.capacity - len(groups), now):
                groups.append(self._to_verify(purpose, entry))
        return Reply({"groups": groups}, {}) if groups else None

    def _to_verify(self, purpose: m.Purpose, entry: Entry) -> dict[str, Any]:
        held = self.held[purpose, entry.ticket]
        assert held.payload is not None
        return {
            "purpose": purpose,
            "ticket": entry.ticket,
            "verifier": held.task["verifier"],
            "reference": held.task["reference"],
            "prompt": held.prompt,
            "messages": held.task["messages"],
            "texts": list(held.texts),
            "truncated": held.payload.truncated.tolist(),
            "lengths": held.payload.lengths.tolist(),
        }

    def _verdict(self, request: m.Verdict, now: float) -> Reply:
        held = self.held.get((request.purpose, request.ticket))
        if held is None or held.payload is None:
            return LATE
        scores = request.scores
        if scores is not None and len(scores) != len(held.texts):
            raise ProtocolError(f"{len(scores)} scores for {len(held.texts)} completions")
        if request.purpose == "evaluate":
            if self.evaluation:
                self.evaluation.verdict(request.ticket, scores, int(held.payload.lengths.sum()))
                self._finish_evaluation()
        elif self.ledger.verdict(request.ticket, None if scores is None else [s.reward for s in scores]) and scores:
            # A verdict that comes too late must not replace the one that the group's rewards are from.
            held.scores, held.ready_at = tuple(scores), now
            self.since_step.append([s.reward for s in scores])
        return Reply({"accepted": True}, {})

    # ---------------------------------------------------------------- learner

    def _take_batch(self, request: m.TakeBatch, now: float) -> Reply | None:
        again = request.version in self.ledger.batches
        batch = self.ledger.take_batch(request.version)
        if batch is None:
            return None
        groups: list[dict[str, Any]] = []
        arrays: dict[str, Array] = {}
        for position, entry in enumerate(batch):
            held = self.held["train", entry.ticket]
            assert held.payload is not None
            parts = [score.parts for score in held.scores]
            groups.append({"ticket": entry.ticket, "rewards": list(entry.rewards), "parts": parts})
            arrays |= {f"{position}.{name}": array for name, array in held.payload.arrays().items()}
            if not again:
                metrics.STALENESS.observe(request.version - entry.oldest)
                metrics.QUEUE_AGE.observe(now - held.ready_at)
        return Reply({"groups": groups}, arrays)

    def _trained(self, request: m.Trained) -> Reply:
        if request.version not in self.ledger.batches:
            raise ProtocolError(f"the batch of version {request.version} was never delivered")
        again = request.version < self.ledger.version
        self.ledger.trained(request.version)
        if not again:
            self.event(
                {
                    "kind": "step",
                    "step": request.version + 1,
                    "version": request.version + 1,
                    "statistics": request.statistics | self._since_step(),
                    "staleness": request.staleness,
                    "step_seconds": request.step_seconds,
                }
            )
            self._sample(self.ledger.batches[request.version][0])
        return OK

    def _since_step(self) -> dict[str, float]:
        """What the groups verified since the last step say; those dropped for equal rewards count here."""
        groups, self.since_step = self.since_step, []
        if not groups:
            return {}
        rewards = [reward for group in groups for reward in group]
        return {
            "reward": sum(rewards) / len(rewards),
            "mixed_groups": sum(len(set(group)) > 1 for group in groups) / len(groups),
        }

    def _sample(self, ticket: int) -> None:
        """The best and the worst completion of a group, for people to read."""
        held, entry = self.held["train", ticket], self.ledger.entries[ticket]
        if held.payload is None or not held.scores:
            return
        order = sorted(range(len(held.scores)), key=lambda i: held.scores[i].reward)
        for i in dict.fromkeys((order[-1], order[0])):
            self.event(
                {
                    "kind": "sample",
                    "task_key": held.task["key"],
                    "prompt": held.prompt,
                    "response": held.texts[i],
                    "reward": held.scores[i].reward,
                    "parts": held.scores[i].parts,
                    "version_min": entry.oldest,
                    "version_max": entry.newest,
                    "truncated": bool(held.payload.truncated[i]),
                    "verdict_status": held.scores[i].status,
                }
            )

    # ---------------------------------------------------------------- evaluation

    def _evaluate(self, request: m.Evaluate) -> Reply:
        number, self.evaluations = self.evaluations, self.evaluations + 1
        self.waiting_evaluations.append((number, request))
        self._next_evaluation()
        return Reply({"evaluation": number}, {})

    def _next_evaluation(self) -> None:
        if self.evaluation is None and self.waiting_evaluations:
            number, request = self.waiting_evaluations.pop(0)
            self.evaluation = Evaluation.start(
                number, request.name, request.version, self.tasks.held_out, request.samples, self.ledger.policy
            )

    def _finish_evaluation(self) -> None:
        assert self.evaluation is not None
        result = self.evaluation.result()
        if result is None:
            return
        self.results[self.evaluation.number] = result
        self.event(result)
        metrics.HELD_OUT.set(result["pass_at_1"])
        for key in [key for key in self.held if key[0] == "evaluate"]:
            del self.held[key]
        self.evaluation = None
        self._next_evaluation()

    # ---------------------------------------------------------------- watching

    def event(self, event: Mapping[str, Any]) -> None:
        self.events.append(dict(event))
        surplus = len(self.events) - EVENTS_KEPT
        if surplus > 0:
            del self.events[:surplus]
            self.events_gone += surplus

    def _events(self, request: m.Events) -> Reply | None:
        fresh = self.events[max(0, request.after - self.events_gone) :]
        if not fresh:
            return None
        return Reply({"events": fresh, "last": self.events_gone + len(self.events)}, {})

    def status(self) -> dict[str, Any]:
        """The counters of the ledger, as the event `tick` has them, and the queues."""
        counts = self.ledger.counts()
        return {
            "version": self.ledger.version,
            "conserved": self.ledger.conserved(),
            "queues": {str(state): counts[state] for state in (State.GENERATED, State.READY)},
            "groups": {
                "issued": self.ledger.issued,
                "in_flight": counts[State.LEASED] + counts[State.GENERATED] + counts[State.VERIFYING],
                "ready": counts[State.READY],
                "delivered": counts[State.DELIVERED],
                "trained": counts[State.TRAINED],
                "committed": self.ledger.committed,
                "dropped": {str(reason): n for reason, n in self.ledger.dropped.items()},
            },
            "evaluating": self.evaluation.name if self.evaluation else None,
        }

    # ---------------------------------------------------------------- time

    def expire(self, now: float, silence_seconds: float) -> None:
        """Revoke leases past their deadline and those of workers that have fallen silent; forget dropped payloads."""
        silent = [w for w, (_, last) in self.seen.items() if now - last > silence_seconds]
        for purpose, ledger in self._ledgers():
            ledger.expire(now)
            for worker in silent:
                ledger.worker_lost(worker)
            for ticket, _ in ledger.fresh_drops:
                self.held.pop((purpose, ticket), None)
            ledger.fresh_drops.clear()
        for worker in silent:
            del self.seen[worker]
            self.versions.pop(worker, None)

    def _ledger(self, purpose: m.Purpose) -> Ledger | None:
        if purpose == "train":
            return self.ledger
        return self.evaluation.ledger if self.evaluation else None

    def _ledgers(self) -> list[tuple[m.Purpose, Ledger]]:
        training: tuple[m.Purpose, Ledger] = ("train", self.ledger)
        return [("evaluate", self.evaluation.ledger), training] if self.evaluation else [training]
