"""The replay without its socket: ledger, payloads, verdicts and evaluations behind one pure `answer` function.

No socket, no clock, no threads, no metrics: time is an argument, and what happened is part of the reply. Who is alive,
where services are and what the run's watchers are told is the board's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, assert_never

from actors.errors import ProtocolError
from actors.events import Event, RolloutSample, StepDone
from actors.replay import messages as m
from actors.replay.batch import Head, encode_batch
from actors.replay.evaluation import Evaluation
from actors.replay.ledger import Entry, Ledger, Reason, ReplayLimits, State
from actors.replay.payload import Payload
from actors.report.statistics import SOURCE_REWARD
from actors.transport.codec import Array


class TaskSource(Protocol):
    """The tasks behind the task numbers, as MessagePack-able dictionaries: `key`, `messages`, `verifier`,
    `reference` for the verifier, and `source`, the label of where the task is from, one of a few dozen in a run.
    """

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
    scores: tuple[m.CompletionVerdict, ...] = ()
    ready_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Delivery:
    """A group went to the learner for the first time."""

    staleness: int
    queue_age_seconds: float


@dataclass(frozen=True, slots=True)
class Verified:
    """A training group got its rewards, one a completion; it may have been dropped for them."""

    source: str
    rewards: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a request, and what happened by it."""

    body: Mapping[str, Any]
    arrays: Mapping[str, Array] = field(default_factory=dict)
    events: tuple[Event, ...] = ()
    delivered: tuple[Delivery, ...] = ()
    verified: tuple[Verified, ...] = ()


ACCEPTED = {"accepted": True}
OK = Reply({})
#: The lease is over: the group was given to somebody else, or is not needed any more.
LEASE_LOST = Reply({"accepted": False})


class Buffer:
    """Answers requests one at a time. Methods that take `now` expect seconds of one monotonic clock."""

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
        self.since_step: list[Verified] = []
        self.sources: set[str] = set()

    # ---------------------------------------------------------------- one request

    def answer(
        self, request: m.BufferRequest, arrays: Mapping[str, Array], now: float, version: int = 0
    ) -> Reply | None:
        """The reply to a request; None where a long poll has nothing to say yet.

        Args:
            request: what is asked.
            arrays: what travelled beside it.
            now: seconds of the clock.
            version: the policy version that the sender has reported last, which may be newer than its request.

        Raises:
            ProtocolError: if the request does not fit the state; nothing has changed then.
        """
        match request:
            case m.Lease():
                return self._lease(request, now, version)
            case m.GroupArrived():
                return self._group_arrived(request, arrays)
            case m.GroupRejected():
                return self._group_rejected(request)
            case m.LeaseVerification():
                return self._lease_verification(request, now)
            case m.SubmitVerdict():
                return self._verdict(request, now)
            case m.TakeBatch():
                return self._take_batch(request, now)
            case m.Trained():
                return self._trained(request)
            case m.TakeSnapshot():
                return Reply({"snapshot": self.ledger.snapshot(request.version)})
            case m.Committed():
                for group_id in self.ledger.commit(request.version):
                    del self.records["train", group_id]
                return OK
            case m.Evaluate():
                return self._evaluate(request)
            case m.EvaluationResult():
                result = self.results.get(request.evaluation)
                return Reply({"result": result}) if result else None
            case m.GetStatus():
                return Reply(self.status())
            case _:
                assert_never(request)

    # ---------------------------------------------------------------- generators

    def _lease(self, request: m.Lease, now: float, version: int) -> Reply | None:
        tasks = []
        if self.evaluation:
            for entry in self.evaluation.lease(request.worker, request.capacity, now):
                task = self.tasks.evaluate(self.evaluation.task_of(entry))
                tasks.append(self._record("evaluate", entry, task) | {"samples": self.evaluation.samples})
        if len(tasks) < request.capacity:
            # The generator may have taken an update while its long poll waited.
            held = max(request.version, version)
            for entry in self.ledger.lease(request.worker, held, request.capacity - len(tasks), now):
                task = self.tasks.train(entry.task)
                tasks.append(self._record("train", entry, task) | {"samples": self.group_size})
        return Reply({"tasks": tasks}) if tasks else None

    def _record(self, purpose: m.Purpose, entry: Entry, task: Mapping[str, Any]) -> dict[str, Any]:
        self.records[purpose, entry.group_id] = GroupRecord(task)
        told = {name: task[name] for name in ("key", "messages", "source")}
        return {"purpose": purpose, "group_id": entry.group_id, **told}

    def _group_arrived(self, request: m.GroupArrived, arrays: Mapping[str, Array]) -> Reply:
        ledger = self._ledger(request.purpose)
        record = self.records.get((request.purpose, request.group_id))
        if record is None or ledger is None:
            return LEASE_LOST
        samples = self.evaluation.samples if request.purpose == "evaluate" and self.evaluation else self.group_size
        payload = Payload.of(arrays, samples)
        if len(request.texts) != samples:
            raise ProtocolError(f"{len(request.texts)} texts for {samples} completions")
        if not ledger.group_arrived(request.group_id, payload.oldest, payload.newest):
            return LEASE_LOST
        record.prompt, record.texts, record.payload = request.prompt, tuple(request.texts), payload
        return Reply(ACCEPTED)

    def _group_rejected(self, request: m.GroupRejected) -> Reply:
        ledger = self._ledger(request.purpose)
        entry = ledger.entries.get(request.group_id) if ledger else None
        if ledger is None or entry is None or entry.holder != request.worker:
            return LEASE_LOST
        ledger.drop(request.group_id, Reason(request.reason))
        return Reply(ACCEPTED)

    # ---------------------------------------------------------------- verifiers

    def _lease_verification(self, request: m.LeaseVerification, now: float) -> Reply | None:
        groups: list[dict[str, Any]] = []
        for purpose, ledger in self._ledgers():
            for entry in ledger.lease_verification(request.worker, request.capacity - len(groups), now):
                groups.append(self._to_verify(purpose, entry))
        return Reply({"groups": groups}) if groups else None

    def _to_verify(self, purpose: m.Purpose, entry: Entry) -> dict[str, Any]:
        record = self.records[purpose, entry.group_id]
        assert record.payload is not None
        return {
            "purpose": purpose,
            "group_id": entry.group_id,
            "verifier": record.task["verifier"],
            "reference": record.task["reference"],
            "source": record.task["source"],
            "prompt": record.prompt,
            "messages": record.task["messages"],
            "texts": list(record.texts),
            "truncated": record.payload.truncated.tolist(),
            "lengths": record.payload.lengths.tolist(),
        }

    def _verdict(self, request: m.SubmitVerdict, now: float) -> Reply:
        record = self.records.get((request.purpose, request.group_id))
        if record is None or record.payload is None:
            return LEASE_LOST
        scores = request.scores
        if scores is not None and len(scores) != len(record.texts):
            raise ProtocolError(f"{len(scores)} scores for {len(record.texts)} completions")
        if request.purpose == "evaluate":
            return self._evaluation_verdict(request, record.payload)
        taken = self.ledger.verdict(request.group_id, None if scores is None else [s.reward for s in scores])
        if not taken or scores is None:
            # A verdict that comes too late must not replace the one that the group's rewards are from.
            return Reply(ACCEPTED)
        record.scores, record.ready_at = tuple(scores), now
        verified = Verified(record.task["source"], tuple(s.reward for s in scores))
        self.since_step.append(verified)
        return Reply(ACCEPTED, verified=(verified,))

    # ---------------------------------------------------------------- learner

    def _take_batch(self, request: m.TakeBatch, now: float) -> Reply | None:
        again = request.version in self.ledger.batches
        batch = self.ledger.take_batch(request.version)
        if batch is None:
            return None
        records = [self.records["train", entry.group_id] for entry in batch]
        body, arrays = encode_batch(map(_delivered, batch, records))
        if again:
            return Reply(body, arrays)
        delivered = tuple(
            Delivery(request.version - entry.oldest, now - record.ready_at)
            for entry, record in zip(batch, records, strict=True)
        )
        return Reply(body, arrays, delivered=delivered)

    def _trained(self, request: m.Trained) -> Reply:
        if request.version not in self.ledger.batches:
            raise ProtocolError(f"the batch of version {request.version} was never delivered")
        again = request.version < self.ledger.version
        self.ledger.trained(request.version)
        if again:
            return OK
        step = StepDone(
            step=request.version + 1,
            version=request.version + 1,
            statistics=request.statistics | self._since_step(),
            staleness=request.staleness,
            step_seconds=request.step_seconds,
        )
        return Reply({}, events=(step, *self._samples(self.ledger.batches[request.version][0])))

    def _since_step(self) -> dict[str, float]:
        """What the groups verified since the last step say; those dropped for equal rewards count here."""
        groups, self.since_step = self.since_step, []
        if not groups:
            return {}
        found = {
            "reward": _mean_reward(groups),
            "mixed_groups": sum(len(set(group.rewards)) > 1 for group in groups) / len(groups),
        }
        self.sources.update(group.source for group in groups)
        if len(self.sources) > 1:  # of a single source it would be the same again
            for source in sorted({group.source for group in groups}):
                found[f"{SOURCE_REWARD}{source}"] = _mean_reward([g for g in groups if g.source == source])
        return found

    def _samples(self, group_id: int) -> list[RolloutSample]:
        """The best and the worst completion of a group, for people to read."""
        record, entry = self.records["train", group_id], self.ledger.entries[group_id]
        if record.payload is None or not record.scores:
            return []
        order = sorted(range(len(record.scores)), key=lambda i: record.scores[i].reward)
        return [
            RolloutSample(
                task_key=record.task["key"],
                prompt=record.prompt,
                response=record.texts[i],
                reward=record.scores[i].reward,
                parts=record.scores[i].parts,
                version_min=entry.oldest,
                version_max=entry.newest,
                truncated=bool(record.payload.truncated[i]),
                verdict_status=record.scores[i].status,
                source=record.task["source"],
            )
            for i in dict.fromkeys((order[-1], order[0]))
        ]

    # ---------------------------------------------------------------- evaluation

    def _evaluate(self, request: m.Evaluate) -> Reply:
        number, self.evaluations = self.evaluations, self.evaluations + 1
        self.waiting_evaluations.append((number, request))
        self._next_evaluation()
        return Reply({"evaluation": number})

    def _next_evaluation(self) -> None:
        if self.evaluation is None and self.waiting_evaluations:
            number, request = self.waiting_evaluations.pop(0)
            self.evaluation = Evaluation.start(
                number, request.name, request.version, self.tasks.held_out, request.samples, self.ledger.limits
            )

    def _evaluation_verdict(self, request: m.SubmitVerdict, payload: Payload) -> Reply:
        if self.evaluation is None:
            return Reply(ACCEPTED)
        self.evaluation.verdict(request.group_id, request.scores, int(payload.lengths.sum()))
        result = self.evaluation.result()
        if result is None:
            return Reply(ACCEPTED)
        self.results[self.evaluation.number] = result.model_dump(mode="json")
        for key in [key for key in self.records if key[0] == "evaluate"]:
            del self.records[key]
        self.evaluation = None
        self._next_evaluation()
        return Reply(ACCEPTED, events=(result,))

    # ---------------------------------------------------------------- looking

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

    def expire(self, now: float) -> None:
        """Revoke leases past their deadline, and forget the payloads of dropped groups."""
        for _, ledger in self._ledgers():
            ledger.expire(now)
        self._forget_dropped()

    def worker_lost(self, worker: str) -> None:
        """Revoke everything that a worker holds which is not alive any more."""
        for _, ledger in self._ledgers():
            ledger.worker_lost(worker)
        self._forget_dropped()

    def _forget_dropped(self) -> None:
        for purpose, ledger in self._ledgers():
            for group_id, _ in ledger.newly_dropped:
                self.records.pop((purpose, group_id), None)
            ledger.newly_dropped.clear()

    def _ledger(self, purpose: m.Purpose) -> Ledger | None:
        if purpose == "train":
            return self.ledger
        return self.evaluation.ledger if self.evaluation else None

    def _ledgers(self) -> list[tuple[m.Purpose, Ledger]]:
        training: tuple[m.Purpose, Ledger] = ("train", self.ledger)
        return [("evaluate", self.evaluation.ledger), training] if self.evaluation else [training]


def _delivered(entry: Entry, record: GroupRecord) -> tuple[Head, Payload]:
    assert record.payload is not None
    parts = [score.parts for score in record.scores]
    head = Head(group_id=entry.group_id, source=record.task["source"], rewards=list(entry.rewards), parts=parts)
    return head, record.payload


def _mean_reward(groups: Sequence[Verified]) -> float:
    rewards = [reward for group in groups for reward in group.rewards]
    return sum(rewards) / len(rewards)
