"""The replay without its socket: ledger, payloads, verdicts and evaluations behind one pure `answer` function.

No socket, no clock, no threads, no metrics: time is an argument, and what happened is part of the reply. Who is alive,
where services are and what the run's watchers are told is the board's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, assert_never

from actors.errors import ProtocolError, RecipeError
from actors.events import Event, RolloutSample, StepDone
from actors.replay import messages as m
from actors.replay.batch import Head, encode_batch
from actors.replay.evaluation import Evaluations
from actors.replay.ledger import REISSUED, Entry, Ledger, Reason, ReplayLimits, State
from actors.replay.partials import Partials, renewed
from actors.replay.payload import Payload
from actors.replay.rewards import RewardStatistics, Verified
from actors.transport.codec import Array


class TaskSource(Protocol):
    """The tasks behind the task numbers, as MessagePack-able dictionaries: `key`, `messages`, `verifier`,
    `reference` for the verifier, and `source`, the label of where the task is from, one of a few dozen in a run.

    Both raise RecipeError for a task that its source cannot make.
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
    """Answers requests one at a time. Methods that take `now` expect seconds of one monotonic clock.

    Args:
        limits: of the ledger.
        group_size: completions of a training task.
        tasks: what the task numbers stand for.
        snapshot: where a run that resumes goes on, see `Ledger.snapshot`.
        vocabulary: number of the model's token ids, where it is known.
        max_progress_bytes: most that is kept of unfinished groups.
    """

    def __init__(
        self,
        limits: ReplayLimits,
        group_size: int,
        tasks: TaskSource,
        snapshot: Mapping[str, Any] | None = None,
        vocabulary: int | None = None,
        max_progress_bytes: int = 2**30,
    ) -> None:
        self.ledger = Ledger.resume(limits, dict(snapshot)) if snapshot else Ledger(limits)
        self.group_size, self.tasks = group_size, tasks
        self.records: dict[tuple[str, int], GroupRecord] = {}
        self.vocabulary = vocabulary
        self.evaluations = Evaluations(tasks.held_out, limits)
        #: What was said last of groups that were dropped, or whose verification broke, by reason.
        self.refusals: dict[str, str] = {}
        self.rewards = RewardStatistics()
        self.partials = Partials(max_progress_bytes)

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
                return self._with_end_of_evaluation(self._group_rejected(request))
            case m.RenewLeases():
                return Reply(renewed(request, self._ledger(request.purpose), now))
            case m.ReportProgress():
                ledger, samples = self._ledger(request.purpose), self._samples_of(request.purpose)
                return Reply(self.partials.progress(request, arrays, ledger, samples, self.vocabulary, now))
            case m.LeaseVerification():
                return self._lease_verification(request, now)
            case m.SubmitVerdict():
                return self._with_end_of_evaluation(self._verdict(request, now))
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
                return Reply({"evaluation": self.evaluations.add(request)})
            case m.EvaluationResult():
                return Reply(self.evaluations.standing(request.evaluation))
            case m.GetStatus():
                return Reply(self.status())
            case _:
                assert_never(request)

    # ---------------------------------------------------------------- generators

    def _lease(self, request: m.Lease, now: float, version: int) -> Reply | None:
        tasks: list[dict[str, Any]] = []
        if evaluation := self.evaluations.current:
            for entry in evaluation.lease(request.worker, request.capacity, now):
                tasks += self._record("evaluate", entry, evaluation.samples)
        if len(tasks) < request.capacity:
            # The generator may have taken an update while its long poll waited.
            held = max(request.version, version)
            for entry in self.ledger.lease(request.worker, held, request.capacity - len(tasks), now):
                tasks += self._record("train", entry, self.group_size)
        return Reply({"tasks": tasks}, self.partials.to_continue(tasks, self.ledger)) if tasks else None

    def _record(self, purpose: m.Purpose, entry: Entry, samples: int) -> list[dict[str, Any]]:
        """What a generator is told of a task; nothing where its source cannot make it."""
        try:
            task = self.tasks.train(entry.task) if purpose == "train" else self.tasks.evaluate(entry.task)
        except RecipeError as error:
            self._drop(purpose, entry, Reason.MALFORMED, str(error))
            return []
        self.records[purpose, entry.group_id] = GroupRecord(task)
        told = {name: task[name] for name in ("key", "messages", "source")}
        return [{"purpose": purpose, "group_id": entry.group_id, "task": entry.task, **told, "samples": samples}]

    def _drop(self, purpose: m.Purpose, entry: Entry, reason: Reason, detail: str) -> None:
        self._refused(reason, detail)
        if ledger := self._ledger(purpose):
            ledger.drop(entry.group_id, reason)

    def _refused(self, reason: Reason, detail: str) -> None:
        if detail:
            self.refusals[str(reason)] = detail[: m.MAX_DETAIL]

    def _group_arrived(self, request: m.GroupArrived, arrays: Mapping[str, Array]) -> Reply:
        ledger = self._ledger(request.purpose)
        record = self.records.get((request.purpose, request.group_id))
        if record is None or ledger is None:
            return LEASE_LOST
        samples = self._samples_of(request.purpose)
        payload = Payload.of(arrays, samples)
        if self.vocabulary is not None:
            payload.require_vocabulary(self.vocabulary)
        if len(request.texts) != samples:
            raise ProtocolError(f"{len(request.texts)} texts for {samples} completions")
        if not ledger.group_arrived(request.group_id, payload.oldest, payload.newest):
            return LEASE_LOST
        record.prompt, record.texts, record.payload = request.prompt, tuple(request.texts), payload
        self.partials.forget(request.purpose, request.group_id)
        return Reply(ACCEPTED)

    def _samples_of(self, purpose: m.Purpose) -> int:
        return self.evaluations.samples if purpose == "evaluate" else self.group_size

    def _group_rejected(self, request: m.GroupRejected) -> Reply:
        ledger = self._ledger(request.purpose)
        entry = ledger.entries.get(request.group_id) if ledger else None
        if ledger is None or entry is None or entry.holder != request.worker:
            return LEASE_LOST
        self._drop(request.purpose, entry, Reason(request.reason), request.detail)
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
        if scores is None:
            self._refused(Reason.INFRA_ERROR, request.detail)
        if request.purpose == "evaluate":
            if evaluation := self.evaluations.current:
                tokens = int(record.payload.lengths.sum())
                evaluation.verdict(request.group_id, scores, tokens, request.retryable)
            return Reply(ACCEPTED)
        rewards = None if scores is None else [s.reward for s in scores]
        taken = self.ledger.verdict(request.group_id, rewards, request.retryable)
        if not taken or scores is None:
            # A verdict that comes too late must not replace the one that the group's rewards are from.
            return Reply(ACCEPTED)
        record.scores, record.ready_at = tuple(scores), now
        verified = Verified(record.task["source"], tuple(s.reward for s in scores))
        self.rewards.groups.append(verified)
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
            statistics=request.statistics | self.rewards.take(),
            staleness=request.staleness,
            step_seconds=request.step_seconds,
        )
        return Reply({}, events=(step, *self._samples(self.ledger.batches[request.version][0])))

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

    def _with_end_of_evaluation(self, reply: Reply) -> Reply:
        return replace(reply, events=(*reply.events, *self._end_of_evaluation()))

    def _end_of_evaluation(self) -> tuple[Event, ...]:
        """What came of the evaluation under way, where it is over."""
        event = self.evaluations.end(self.refusals)
        if event is None:
            return ()
        self.records = {key: record for key, record in self.records.items() if key[0] != "evaluate"}
        self.partials.forget_all("evaluate")
        return (event,)

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
            "evaluating": self.evaluations.current.name if self.evaluations.current else None,
            "refusals": dict(self.refusals),
        }

    # ---------------------------------------------------------------- time

    def expire(self, now: float) -> tuple[Event, ...]:
        """Revoke leases past their deadline, and forget the payloads of dropped groups. Returns what happened by it."""
        for _, ledger in self._ledgers():
            ledger.expire(now)
        return self._after_losses()

    def worker_lost(self, worker: str, on_purpose: bool = False) -> tuple[Event, ...]:
        """Revoke everything that a worker holds which is not alive any more, or leaves. Returns what happened by it."""
        for _, ledger in self._ledgers():
            (ledger.worker_left if on_purpose else ledger.worker_lost)(worker)
        return self._after_losses()

    def _after_losses(self) -> tuple[Event, ...]:
        for purpose, ledger in self._ledgers():
            for group_id, reason in ledger.newly_dropped:
                record = self.records.pop((purpose, group_id), None)
                (self.partials.lost if reason in REISSUED else self.partials.forget)(purpose, group_id)
                if record is not None and reason is Reason.ATTEMPTS_EXHAUSTED:
                    again = f"its generator or its lease was lost {ledger.limits.generation_attempts} times"
                    self._refused(reason, f"task {record.task['key']} of {record.task['source']}: {again}")
                elif reason is Reason.INFRA_ERROR:
                    self.refusals.setdefault(str(reason), "the verifiers, or their leases, were lost; see their logs")
            ledger.newly_dropped.clear()
        return self._end_of_evaluation()

    def _ledger(self, purpose: m.Purpose) -> Ledger | None:
        if purpose == "train":
            return self.ledger
        return self.evaluations.current.ledger if self.evaluations.current else None

    def _ledgers(self) -> list[tuple[m.Purpose, Ledger]]:
        training: tuple[m.Purpose, Ledger] = ("train", self.ledger)
        current = self.evaluations.current
        return [("evaluate", current.ledger), training] if current else [training]


def _delivered(entry: Entry, record: GroupRecord) -> tuple[Head, Payload]:
    assert record.payload is not None
    parts = [score.parts for score in record.scores]
    head = Head(group_id=entry.group_id, source=record.task["source"], rewards=list(entry.rewards), parts=parts)
    return head, record.payload
