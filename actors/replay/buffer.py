"""The replay without its socket: ledger, payloads, verdicts and evaluations behind one pure `answer` function.

No socket, no clock, no threads, no metrics: time is an argument, and what happened is part of the reply. Who is alive,
where services are and what the run's watchers are told is the board's.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, assert_never

from actors.errors import ProtocolError, RecipeError
from actors.events import Event, StepDone
from actors.replay import messages as m
from actors.replay.accuracy import TaskResult
from actors.replay.answers import REMEMBERED, to_remember
from actors.replay.batch import encode_batch
from actors.replay.changes import Accepted, Key
from actors.replay.delivery import delivery, require_kept
from actors.replay.evaluation import Asked, Evaluations
from actors.replay.kept import rows_of
from actors.replay.leases import groups_to_verify, to_generate
from actors.replay.ledger import Ledger
from actors.replay.limits import REISSUED, Reason, ReplayLimits
from actors.replay.partials import Partials, renewed
from actors.replay.payload import Payload
from actors.replay.queues import Entry, State
from actors.replay.records import GroupRecord, Leases, Past, ReplayState, delivered, samples_of
from actors.replay.reply import ACCEPTED, LEASE_LOST, OK, Reply
from actors.replay.shares import encode_outlines, encode_payloads
from actors.replay.source import TaskSource
from actors.transport.codec import Array


class Buffer:
    """Answers requests one at a time. Methods that take `now` expect seconds of one monotonic clock.

    Args:
        limits: of the ledger.
        group_size: completions of a training task.
        tasks: what the task numbers stand for.
        snapshot: where a run that resumes goes on, see `Ledger.snapshot`.
        vocabulary: number of the model's token ids, where it is known.
        past: what the journal holds, where there is one: the buffer is then as it was.
        now: seconds of the clock; all leases of the past begin anew.
        max_progress_bytes: most that is kept of unfinished groups.
        teacher: whether a teacher scores every training group.

    Raises:
        JournalError: the past is not whole.
    """

    def __init__(
        self,
        limits: ReplayLimits,
        group_size: int,
        tasks: TaskSource,
        snapshot: Mapping[str, Any] | None = None,
        vocabulary: int | None = None,
        past: Past | None = None,
        now: float = 0.0,
        max_progress_bytes: int = 2**30,
        teacher: bool = False,
    ) -> None:
        self.group_size, self.tasks, self.vocabulary, self.teacher = group_size, tasks, vocabulary, teacher
        self.records: dict[Key, GroupRecord] = {}
        #: Training groups that were dropped after they were submitted: why, and tokens of the longest completion.
        self.dropped: list[tuple[Reason, int]] = []
        if past is None:
            ledger = Ledger.resume(limits, dict(snapshot)) if snapshot else Ledger(limits)
            self.state = ReplayState(ledger, Evaluations(tasks.held_out, limits))
        else:
            self.state = ReplayState.restored(past, limits)
            self.records = self.state.records(past, self._task, now)
            self.state.begin_leases(now)
        self.ledger, self.evaluations = self.state.ledger, self.state.evaluations
        self.partials = Partials(max_progress_bytes)
        for purpose, group_id in [key for key, r in self.records.items() if key[0] != "train" and r.scores]:
            self._collect(purpose, group_id)  # of a journal of an earlier release

    # ---------------------------------------------------------------- one request

    def answer(
        self, request: m.BufferRequest, arrays: Mapping[str, Array], now: float, version: int = 0, number: int = 0
    ) -> Reply | None:
        """The reply to a request; None where a long poll has nothing to say yet.

        Args:
            request: what is asked.
            arrays: what travelled beside it.
            now: seconds of the clock.
            version: the policy version that the sender has reported last, which may be newer than its request.
            number: of the request among those of its client.

        Raises:
            ProtocolError: if the request does not fit the state; nothing has changed then.
        """
        if (before := self.again(request, number)) is not None:
            return before
        calls = len(self.state.changes.calls)
        reply = self._answer(request, arrays, now, version)
        if reply and request.client and isinstance(request, REMEMBERED) and len(self.state.changes.calls) > calls:
            asked = request.worker, request.client, number, request.settled
            self.state.answers.given(*asked, type(request).__name__, to_remember(reply.body))
        return reply

    def again(self, request: m.AnyRequest, number: int) -> Reply | None:
        """The reply to a request that has been answered before, see `actors.replay.answers`; else None."""
        said = None
        if isinstance(request, REMEMBERED) and request.client:
            said = self.state.answers.again(request.worker, request.client, number, type(request).__name__)
        if said is None or not isinstance(request, m.Lease | m.LeaseVerification):
            return None if said is None else Reply(said)
        state = State.LEASED if isinstance(request, m.Lease) else State.VERIFYING
        leases = self.state.held_of(request.worker, state, said)
        tell = self._leased if isinstance(request, m.Lease) else self._leased_verification
        return tell(leases) if leases else None  # else whatever it was, it is over

    def _answer(self, request: m.BufferRequest, arrays: Mapping[str, Array], now: float, version: int) -> Reply | None:
        match request:
            case m.Lease():
                return self._lease(request, now, version)
            case m.GroupArrived():
                return self._group_arrived(request, arrays)
            case m.GroupRejected():
                return self._with_end_of_evaluation(self._group_rejected(request))
            case m.RenewLeases():
                return Reply(renewed(request, self.state.ledger_of(request.purpose), now))
            case m.ReportProgress():
                ledger, samples = self.state.ledger_of(request.purpose), self._samples_of(request.purpose)
                return Reply(self.partials.progress(request, arrays, ledger, samples, self.vocabulary, now))
            case m.LeaseVerification():
                return self._lease_verification(request, now)
            case m.SubmitVerdict():
                return self._with_end_of_evaluation(self._verdict(request, arrays, now))
            case m.TakeBatch():
                return self._take_batch(request, now)
            case m.Trained():
                return self._trained(request)
            case m.TakeSnapshot():
                return Reply({"snapshot": self.ledger.snapshot(request.version)})
            case m.Committed():
                require_kept(self.ledger, request.version)
                self.commit(request.version)
                return OK
            case m.Evaluate():
                asked = request.model_dump(include=set(Asked._fields))
                number = self.evaluations.add(**asked)
                ended = self.evaluations.ended(number)
                return Reply({"evaluation": number}, events=(ended,) if ended else ())
            case m.EvaluationResult():
                return Reply(self.evaluations.standing(request.evaluation))
            case m.GetStatus():
                return Reply(self.state.status())
            case m.TakePayloads():
                return Reply(*encode_payloads(request, self.ledger.batches, self.records))
            case _:
                assert_never(request)

    # ---------------------------------------------------------------- generators

    def _lease(self, request: m.Lease, now: float, version: int) -> Reply | None:
        leases: Leases = []
        if evaluation := self.evaluations.current:
            purpose = evaluation.asked.purpose
            ledger = self.state.ledger_of(purpose)
            assert ledger is not None
            for entry in ledger.lease(request.worker, 0, request.capacity, now):
                leases += self._record(purpose, entry)
        if len(leases) < request.capacity:
            # The generator may have taken an update while its long poll waited.
            held, capacity = max(request.version, version), request.capacity - len(leases)
            for entry in self.state.lease_training(request.worker, held, capacity, now, self._key):
                leases += self._record("train", entry)
        return self._leased(leases) if leases else None

    def _leased(self, leases: Leases) -> Reply:
        tasks = [to_generate(p, e, self.records[p, e.group_id], self._samples_of(p)) for p, e in leases]
        return Reply({"tasks": tasks}, self.partials.to_continue(tasks, self.ledger))

    def _record(self, purpose: m.Purpose, entry: Entry) -> Leases:
        """A lease whose task its source can make; nothing where it cannot."""
        try:
            self.records[purpose, entry.group_id] = GroupRecord(self._task(purpose, entry.task))
        except RecipeError as error:
            self._drop(purpose, entry, Reason.MALFORMED, str(error))
            return []
        return [(purpose, entry)]

    def _key(self, number: int) -> str | None:
        """Of a training task; None where its source cannot make it, which is told to whoever leases it."""
        try:
            return str(self._task("train", number)["key"])
        except RecipeError:
            return None

    def _task(self, purpose: m.Purpose, number: int) -> Mapping[str, Any]:
        return self.tasks.evaluate(number) if purpose == "evaluate" else self.tasks.train(number)

    def _drop(self, purpose: m.Purpose, entry: Entry, reason: Reason, detail: str) -> None:
        self._refused(reason, detail)
        if ledger := self.state.ledger_of(purpose):
            ledger.drop(entry.group_id, reason)

    def _refused(self, reason: Reason, detail: str) -> None:
        if detail:
            self.state.refusals.note(str(reason), detail[: m.MAX_DETAIL])

    def _group_arrived(self, request: m.GroupArrived, arrays: Mapping[str, Array]) -> Reply:
        ledger = self.state.ledger_of(request.purpose)
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
        accepted = Accepted(request.prompt, record.texts, payload)
        self.state.changes.accepted[request.purpose, request.group_id] = accepted
        return Reply(ACCEPTED, submitted=payload.longest if request.purpose == "train" else None)

    def _samples_of(self, purpose: m.Purpose) -> int:
        return self.group_size if purpose == "train" else self.evaluations.samples

    def _group_rejected(self, request: m.GroupRejected) -> Reply:
        ledger = self.state.ledger_of(request.purpose)
        entry = ledger.entries.get(request.group_id) if ledger else None
        if ledger is None or entry is None or entry.holder != request.worker:
            return LEASE_LOST
        self._drop(request.purpose, entry, Reason(request.reason), request.detail)
        return Reply(ACCEPTED)

    # ---------------------------------------------------------------- verifiers

    def _lease_verification(self, request: m.LeaseVerification, now: float) -> Reply | None:
        leases: Leases = []
        for purpose, ledger in self.state.ledgers():
            capacity = request.capacity - len(leases)
            leases += [(purpose, entry) for entry in ledger.lease_verification(request.worker, capacity, now)]
        return self._leased_verification(leases) if leases else None

    def _leased_verification(self, leases: Leases) -> Reply:
        return Reply(*groups_to_verify(leases, self.records, self.teacher))

    def _verdict(self, request: m.SubmitVerdict, arrays: Mapping[str, Array], now: float) -> Reply:
        record = self.records.get((request.purpose, request.group_id))
        if record is None or record.payload is None:
            return LEASE_LOST
        scores = request.scores
        if scores is not None and len(scores) != len(record.texts):
            raise ProtocolError(f"{len(scores)} scores for {len(record.texts)} completions")
        is_taught = self.teacher and request.purpose == "train" and scores is not None
        taught = record.payload.taught(arrays) if is_taught else None
        ledger, rewards = self.state.ledger_of(request.purpose), None
        if scores is None:
            self._refused(Reason.INFRA_ERROR, request.detail)
        else:
            rewards = [score.reward for score in scores]
        if ledger is None or not ledger.verdict(request.group_id, rewards, request.retryable) or scores is None:
            # A verdict that comes too late must not replace the one that the group's rewards are from.
            return Reply(ACCEPTED)
        record.scores, record.ready_at = tuple(scores), now
        if request.purpose != "train":
            self._collect(request.purpose, request.group_id)
            return Reply(ACCEPTED)
        self.state.changes.scores[request.purpose, request.group_id] = record.scores
        if taught is not None:
            record.payload = taught
            self.state.changes.taught[request.purpose, request.group_id] = Accepted(record.prompt, record.texts, taught)
        verified, firsts = self.state.verified(record)
        return Reply(ACCEPTED, events=firsts, verified=(verified,))

    # ---------------------------------------------------------------- learner

    def oldest_ready_seconds(self, now: float) -> float:
        """Since when the oldest group that is ready waits for its batch (s); 0 without one."""
        first = next(iter(self.ledger.groups.states[State.READY]), None)
        return 0.0 if first is None else now - self.records["train", first].ready_at

    def _take_batch(self, request: m.TakeBatch, now: float) -> Reply | None:
        require_kept(self.ledger, request.version)
        again = request.version in self.ledger.batches
        batch = self.ledger.take_batch(request.version)
        if batch is None:
            return None
        self.state.rewards.taken(request.version)
        records = [self.records["train", entry.group_id] for entry in batch]
        body, arrays = (encode_outlines if request.outlines else encode_batch)(map(delivered, batch, records))
        if again:
            return Reply(body, arrays)
        pairs = zip(batch, records, strict=True)
        first = (delivery(request.version, e, r.payload, now - r.ready_at, self.ledger.limits) for e, r in pairs)
        return Reply(body, arrays, delivered=tuple(first))

    def _trained(self, request: m.Trained) -> Reply:
        if request.version not in self.ledger.batches:
            raise ProtocolError(f"the batch of version {request.version} was never delivered")
        first = request.version >= self.ledger.version
        self.ledger.trained(request.version)
        if self.ledger.limits.shard:
            return Reply({"tally": self.state.rewards.tally(request.version)})  # the first shard tells of the step
        tallies = [tally.model_dump() for tally in request.tallies]
        if (rewards := self.state.rewards.step(request.version, tallies)) is None:
            return OK
        step = StepDone(
            step=request.version + 1,
            version=request.version + 1,
            statistics=request.statistics | rewards,
            staleness=request.staleness,
            step_seconds=request.step_seconds,
        )
        samples = samples_of(self.records["train", self.ledger.batches[request.version][0]]) if first else ()
        return Reply({}, events=(step, *samples))

    def commit(self, version: int) -> None:
        """A checkpoint that contains every step below `version` is durable."""
        heads = {
            v: [delivered(self.ledger.entries[group_id], self.records["train", group_id])[0] for group_id in group_ids]
            for v, group_ids in self.ledger.batches.items()
            if v < version
        }
        self.ledger.commit(version)
        self.state.rewards.commit(version)
        for v in sorted(heads.keys() - self.ledger.batches.keys()):
            self.state.changes.committed[v] = heads[v]
            for head in heads[v]:
                del self.records["train", head.group_id]

    # ---------------------------------------------------------------- evaluation

    def _with_end_of_evaluation(self, reply: Reply) -> Reply:
        return replace(reply, events=(*reply.events, *self._end_of_evaluation()))

    def _collect(self, purpose: m.Purpose, group_id: int) -> None:
        """Note what a task of the evaluation under way came to, and forget everything else of it."""
        current, record = self.evaluations.current, self.records[purpose, group_id]
        assert current is not None and record.payload is not None
        entry, tokens = current.ledger.entries[group_id], int(record.payload.lengths.sum())
        result = TaskResult(record.task["source"], record.scores, tokens, entry.oldest, entry.newest)
        rows = rows_of(entry, record, current.asked.provenance) if current.asked.keep else b""
        if rows:
            self.state.changes.kept.append((current.asked.file, current.written, rows))
        self.evaluations.collect(group_id, result.state(), len(rows))
        self._forget((purpose, group_id))

    def _end_of_evaluation(self) -> tuple[Event, ...]:
        """What came of the evaluation under way, where it is over."""
        current = self.evaluations.current
        if current is None or not current.is_over:
            return ()
        event = current.result(self.state.refusals.said)
        self.evaluations.end(event.model_dump(mode="json"))
        for key in [key for key in self.records if key[0] == current.asked.purpose]:
            self._forget(key)
        self.partials.forget_all(current.asked.purpose)
        return (event,)

    def _forget(self, key: Key) -> GroupRecord | None:
        record = self.records.pop(key, None)
        if record is not None and record.payload is not None:
            self.state.changes.forget(key)
        return record

    # ---------------------------------------------------------------- time

    def expire(self, now: float) -> tuple[Event, ...]:
        """Revoke leases past their deadline, and forget the payloads of dropped groups. Returns what happened by it."""
        for _, ledger in self.state.ledgers():
            ledger.expire(now)
        return self._after_losses()

    def worker_lost(self, worker: str, on_purpose: bool = False) -> tuple[Event, ...]:
        """Revoke everything that a worker holds which is not alive any more, or leaves. Returns what happened by it."""
        for _, ledger in self.state.ledgers():
            (ledger.worker_left if on_purpose else ledger.worker_lost)(worker)
        self.state.answers.forget(worker)
        return self._after_losses()

    def _after_losses(self) -> tuple[Event, ...]:
        for purpose, ledger in self.state.ledgers():
            for group_id, reason in ledger.take_dropped():
                record = self._forget((purpose, group_id))
                (self.partials.lost if reason in REISSUED else self.partials.forget)(purpose, group_id)
                if record is not None and record.payload is not None and purpose == "train":
                    self.dropped.append((reason, record.payload.longest))
                if record is not None and reason is Reason.ATTEMPTS_EXHAUSTED:
                    again = f"its generator or its lease was lost {ledger.limits.generation_attempts} times"
                    self._refused(reason, f"task {record.task['key']} of {record.task['source']}: {again}")
                elif reason is Reason.INFRA_ERROR:
                    said = "the verifiers, or their leases, were lost; see their logs"
                    self.state.refusals.note_first(str(reason), said)
        return self._end_of_evaluation()
