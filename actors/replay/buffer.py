"""The replay without its socket: ledger, payloads, evaluations and events behind one `answer` function."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import ValidationError

from actors.errors import ProtocolError
from actors.observability import metrics
from actors.replay import messages as m
from actors.replay.evaluation import Evaluation
from actors.replay.ledger import Entry, Ledger, Reason, ReplayLimits, State
from actors.replay.payload import Payload
from actors.transport.codec import Array, Message


class TaskSource(Protocol):
    """The problems behind the task numbers, as MessagePack-able dictionaries with a `reference` for the verifier."""

    held_out: int

    def train(self, index: int) -> Mapping[str, Any]: ...

    def evaluate(self, index: int) -> Mapping[str, Any]: ...


@dataclass(slots=True)
class GroupRecord:
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
LEASE_LOST = Reply({"accepted": False}, {})
#: A watcher that falls this far behind has lost the oldest events.
EVENTS_KEPT = 20_000


class Replay:
    """Answers requests one at a time. `answer` returns None where a long poll has nothing to say yet."""

    def __init__(
        self, limits: ReplayLimits, group_size: int, tasks: TaskSource, snapshot: Mapping[str, Any] | None = None
    ) -> None:
        self.ledger = Ledger.resume(limits, dict(snapshot)) if snapshot else Ledger(limits)
        self.group_size = group_size
        self.tasks = tasks
        self.records: dict[tuple[str, int], GroupRecord] = {}
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
            case m.GroupRejected():
                return self._group_rejected(request)
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
                for group_id in self.ledger.commit(request.version):
                    del self.records["train", group_id]
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
                tasks.append(self._record("evaluate", entry, task) | {"samples": self.evaluation.samples})
        if len(tasks) < request.capacity:
            # The generator may have taken an update while its long poll was held back.
            version = max(request.version, self.versions.get(request.worker, 0))
            for entry in self.ledger.lease(request.worker, version, request.capacity - len(tasks), now):
                task = self.tasks.train(entry.task)
                tasks.append(self._record("train", entry, task) | {"samples": self.group_size})
        return Reply({"tasks": tasks}, {}) if tasks else None

    def _record(self, purpose: m.Purpose, entry: Entry, task: Mapping[str, Any]) -> dict[str, Any]:
        self.records[purpose, entry.group_id] = GroupRecord(task)
        return {"purpose": purpose, "group_id": entry.group_id, "key": task["key"], "messages": task["messages"]}

    def _group_arrived(self, request: m.GroupArrived, arrays: Mapping[str, Array]) -> Reply:
        ledger = self._ledger(request.purpose)
        record = self.records.get((request.purpose, request.group_id))
        if record is None or ledger is None:
            return LEASE_LOST
        samples = self.evaluation.samples if request.purpose == "evaluate" and self.evaluation else self.group_size
        payload = Payload.of(dict(arrays), samples)
        if len(request.texts) != samples:
            raise ProtocolError(f"{len(request.texts)} texts for {samples} completions")
        if not ledger.group_arrived(request.group_id, payload.oldest, payload.newest):
            return LEASE_LOST
        record.prompt, record.texts, record.payload = request.prompt, tuple(request.texts), payload
        return Reply({"accepted": True}, {})

    def _group_rejected(self, request: m.GroupRejected) -> Reply:
        ledger = self._ledger(request.purpose)
        entry = ledger.entries.get(request.group_id) if ledger else None
        if ledger is None or entry is None or entry.holder != request.worker:
            return LEASE_LOST
        ledger.drop(request.group_id, Reason(request.reason))
        return Reply({"accepted": True}, {})

    # ---------------------------------------------------------------- verifiers

    def _lease_verification(self, request: m.LeaseVerification, now: float) -> Reply | None:
        groups: list[dict[str, Any]] = []
        for purpose, ledger in self._ledgers():
            for entry in ledger.lease_verification(request.worker, request.capacity - len(groups), now):
                groups.append(self._to_verify(purpose, entry))
        return Reply({"groups": groups}, {}) if groups else None

    def _to_verify(self, purpose: m.Purpose, entry: Entry) -> dict[str, Any]:
        record = self.records[purpose, entry.group_id]
        assert record.payload is not None
        return {
            "purpose": purpose,
            "group_id": entry.group_id,
            "verifier": record.task["verifier"],
            "reference": record.task["reference"],
            "prompt": record.prompt,
            "messages": record.task["messages"],
            "texts": list(record.texts),
            "truncated": record.payload.truncated.tolist(),
            "lengths": record.payload.lengths.tolist(),
        }

    def _verdict(self, request: m.Verdict, now: float) -> Reply:
        record = self.records.get((request.purpose, request.group_id))
        if record is None or record.payload is None:
            return LEASE_LOST
        scores = request.scores
        if scores is not None and len(scores) != len(record.texts):
            raise ProtocolError(f"{len(scores)} scores for {len(record.texts)} completions")
        if request.purpose == "evaluate":
            if self.evaluation:
                self.evaluation.verdict(request.group_id, scores, int(record.payload.lengths.sum()))
                self._finish_evaluation()
        elif self.ledger.verdict(request.group_id, None if scores is None else [s.reward for s in scores]) and scores:
            # A verdict that comes too late must not replace the one that the group's rewards are from.
            record.scores, record.ready_at = tuple(scores), now
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
            record = self.records["train", entry.group_id]
            assert record.payload is not None
            parts = [score.parts for score in record.scores]
            groups.append({"group_id": entry.group_id, "rewards": list(entry.rewards), "parts": parts})
            arrays |= {f"{position}.{name}": array for name, array in record.payload.arrays().items()}
            if not again:
                metrics.STALENESS.observe(request.version - entry.oldest)
                metrics.QUEUE_AGE.observe(now - record.ready_at)
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

    def _sample(self, group_id: int) -> None:
        """The best and the worst completion of a group, for people to read."""
        record, entry = self.records["train", group_id], self.ledger.entries[group_id]
        if record.payload is None or not record.scores:
            return
        order = sorted(range(len(record.scores)), key=lambda i: record.scores[i].reward)
        for i in dict.fromkeys((order[-1], order[0])):
            self.event(
                {
                    "kind": "sample",
                    "task_key": record.task["key"],
                    "prompt": record.prompt,
                    "response": record.texts[i],
                    "reward": record.scores[i].reward,
                    "parts": record.scores[i].parts,
                    "version_min": entry.oldest,
                    "version_max": entry.newest,
                    "truncated": bool(record.payload.truncated[i]),
                    "verdict_status": record.scores[i].status,
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
                number, request.name, request.version, self.tasks.held_out, request.samples, self.ledger.limits
            )

    def _finish_evaluation(self) -> None:
        assert self.evaluation is not None
        result = self.evaluation.result()
        if result is None:
            return
        self.results[self.evaluation.number] = result
        self.event(result)
        metrics.HELD_OUT.set(result["pass_at_1"])
        for key in [key for key in self.records if key[0] == "evaluate"]:
            del self.records[key]
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
            for group_id, _ in ledger.newly_dropped:
                self.records.pop((purpose, group_id), None)
            ledger.newly_dropped.clear()
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
