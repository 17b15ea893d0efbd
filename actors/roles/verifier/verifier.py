"""The verifier: leases groups, scores them in its sandbox pool and returns verdicts."""

import json
import logging
import math
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from typing import Any, Protocol

from actors import process
from actors.errors import PeerTimeoutError, ProtocolError
from actors.membership import Report
from actors.observability import metrics
from actors.observability.reporting import report
from actors.observability.waits import waiting
from actors.replay.bundle import unbundled
from actors.replay.clients import AnyClient, connect
from actors.replay.messages import MAX_DETAIL, by_purpose
from actors.roles.role import LEAVE_SECONDS, Description, RoleContext, enter
from actors.roles.verifier.observables import Observer, count
from actors.roles.verifier.preference import PreferenceReward, open_reward
from actors.roles.verifier.teacher import TeacherScores, open_teacher
from actors.tasks.sources import without_preferences
from actors.transport.client import POLL_SECONDS, Heartbeat
from actors.transport.codec import Array
from learner.errors import BatchError
from sandbox import Pool, PoolClosedError, Status, Submission, Verdict, answer_of

log = logging.getLogger(__name__)

#: How often `run` looks whether its threads are alive (s).
WATCH_SECONDS = 1.0


class Verifier:
    """A role, see `actors.roles.role`. As many groups are scored at a time as the sandbox has workers."""

    def __init__(self, context: RoleContext) -> None:
        self._recipe, self._name, self._replay = context.recipe, context.name, context.lifeline
        self._preference: PreferenceReward | None = None
        self._teacher: TeacherScores | None = None
        self._unpreferred = without_preferences(context.recipe.tasks.sources)
        self._observe = Observer(context.recipe)
        self._up, self._leave_at = False, math.inf
        self._stopping = threading.Event()
        self._failure: Exception | None = None
        self._presence = enter(context.recipe, context.storage.folder, context.name, "verifier", context.replay)

    def describe(self) -> Description:
        return Description(self._presence.metrics)

    def stop(self) -> None:
        self._stopping.set()

    def drain(self) -> None:
        """Score what is leased, and take no more."""
        self._leave_at = min(self._leave_at, time.monotonic() + LEAVE_SECONDS)

    @process.logged
    def run(self) -> None:
        """Score until `stop` or `drain` is called.

        Raises:
            Exception: what broke a scoring thread, or that nobody is there to score preferences.
        """
        interval = self._recipe.membership.heartbeat_seconds
        with (
            closing(Heartbeat(self._replay, self._name, "verifier", interval, self._report)) as heartbeat,
            ExitStack() as end,
        ):
            # No group is leased before its reward can be whole.
            self._preference = open_reward(self._recipe, self._name, heartbeat.scorers, self._ending)
            self._teacher = open_teacher(self._recipe, self._name, heartbeat.scorers, self._ending)
            for asked in self._elsewhere:
                end.callback(asked.close)
            with Pool(self._recipe.sandbox, self._recipe.rewards) as pool:
                self._up = True
                self._score_in_threads(pool)
                if self._draining:
                    self._stopping.wait(max(0.0, self._leave_at - time.monotonic()))
        if self._failure is not None:
            raise self._failure

    @property
    def _elsewhere(self) -> list[PreferenceReward | TeacherScores]:
        """Who else is asked about completions."""
        return [asked for asked in (self._preference, self._teacher) if asked is not None]

    @property
    def _draining(self) -> bool:
        return self._leave_at < math.inf

    def _ending(self) -> bool:
        return self._stopping.is_set() or self._draining

    def _report(self) -> Report:
        return report("verifier", self._presence.metrics, ready=self._up)

    def _score_in_threads(self, pool: Pool) -> None:
        threads = [
            threading.Thread(target=self._work, args=(pool,), name=f"scoring-{i}", daemon=True)
            for i in range(self._recipe.sandbox.workers)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(WATCH_SECONDS)

    def _work(self, pool: Pool) -> None:
        client = connect(self._replay, self._name, "verifier")
        body = {"capacity": self._recipe.verifiers.groups_per_lease}
        try:
            while not self._ending():
                for asked in self._elsewhere:
                    asked.wait_ready(self._ending)
                try:
                    leased = client.poll("lease_verification", body)
                except ProtocolError as error:
                    # Such as a reference that no message holds: the leases of its batch expire, and are counted.
                    log.warning("%s", error)
                    self._stopping.wait(POLL_SECONDS)
                    continue
                groups = list(leased.body["groups"]) if leased else []
                arrays = unbundled(leased.arrays, len(groups)) if leased else []
                self._score_all(pool, client, groups, arrays)
        except Exception as error:
            log.exception("scoring failed")
            self._failure = error
            self._stopping.set()
        finally:
            client.close()

    def _score_all(
        self, pool: Pool, client: AnyClient, groups: list[dict[str, Any]], arrays: list[dict[str, Array]]
    ) -> None:
        """One after another; the leases of those that wait for their turn are renewed."""
        renewed = time.monotonic()

        def ending() -> bool:
            nonlocal renewed
            if time.monotonic() - renewed > self._recipe.replay.verify_lease_seconds / 3:
                self._renew(client, groups)
                renewed = time.monotonic()
            return self._ending()

        while groups and not self._stopping.is_set():
            ending()
            for asked in self._elsewhere:
                asked.wait_ready(ending)
            seconds, group, own = self._recipe.verifiers.deadline_seconds, groups.pop(0), arrays.pop(0)
            preference = None if group["source"] in self._unpreferred else self._preference
            teacher = None if self._teacher is None else partial(self._teacher, arrays=own)
            score_group(pool, client, group, seconds, self._observe, preference, teacher)

    def _renew(self, client: AnyClient, groups: list[dict[str, Any]]) -> None:
        for purpose, group_ids in by_purpose(groups).items():
            try:
                client.request("renew", {"purpose": purpose, "group_ids": group_ids})
            except (PeerTimeoutError, ProtocolError) as error:
                log.warning("%s; some groups may be verified twice", error)


class Scores(Protocol):
    """The part of a pool that is needed here."""

    def score(self, submissions: Sequence[Submission], deadline_seconds: float) -> list[Verdict]: ...


class Requests(Protocol):
    """The part of a client of the replay that is needed here."""

    def request(self, kind: str, body: Mapping[str, Any], arrays: Mapping[str, Array] | None = None, /) -> object: ...


class Taught(Protocol):
    """What a teacher says of a leased group, see `TeacherScores`."""

    def __call__(self, group: Mapping[str, Any], *, deadline: float) -> dict[str, Array]: ...


def score_group(
    pool: Scores,
    client: Requests,
    group: dict[str, Any],
    seconds: float,
    observe: Observer,
    preference: PreferenceReward | None = None,
    teacher: Taught | None = None,
) -> None:
    """Score a leased group within a time (s) and tell the replay. What goes wrong with one group ends nothing.

    Raises:
        PoolClosedError: nothing can be scored any more.
    """
    try:
        doing = f"scores of group {group['group_id']}"
        start = time.monotonic()
        with metrics.busy("verifier"), waiting("its sandbox", doing):
            deadline = time.monotonic() + seconds
            verdict = _verdict(pool, group, deadline, observe, preference)
            verdict, arrays = _taught(verdict, group, teacher, deadline)
        metrics.VERIFICATION.observe(time.monotonic() - start, metrics.exemplar(group["group_id"]))
        client.request("verdict", verdict, arrays)
    except PeerTimeoutError as error:
        log.warning("%s; the verdict is lost and the group will be verified again", error)
    except ProtocolError as error:
        # Such as parts that are not finite, of a verifier of the user's: it would say the same again.
        log.warning("group %s: %s", group["group_id"], error)
        _give_up(client, group, str(error))


def _verdict(
    pool: Scores, group: dict[str, Any], deadline: float, observe: Observer, preference: PreferenceReward | None
) -> dict[str, Any]:
    try:
        submissions = submissions_of(group)
        verdicts = pool.score(submissions, deadline - time.monotonic())
        if preference is not None:
            verdicts = preference.added_to(verdicts, group, deadline)
        told = verdict_of(group, submissions, verdicts, observe)
    except PoolClosedError:
        raise
    except Exception as error:
        log.exception("group %s could not be verified", group["group_id"])
        return broken(group, f"{type(error).__name__}: {error}", retryable=True)
    for verdict in verdicts:
        metrics.VERDICTS.labels(verdict.status).inc()
    if group["purpose"] == "train":
        count(score["observed"] for score in told["scores"] or ())
    return told


def _taught(
    verdict: dict[str, Any], group: dict[str, Any], teacher: Taught | None, deadline: float
) -> tuple[dict[str, Any], dict[str, Array]]:
    """A verdict with the arrays that a teacher adds to it. Without them the group is verified again, and never learned
    from as if the teacher had said nothing."""
    if teacher is None or verdict["scores"] is None:
        return verdict, {}
    try:
        return verdict, teacher(group, deadline=deadline)
    except Exception as error:  # noqa: BLE001 - whatever goes wrong on our side is an infra_error
        log.warning("no teacher for group %s: %s: %s", group["group_id"], type(error).__name__, error)
        again = not isinstance(error, BatchError)  # what is too long to be read stays so
        return broken(group, f"teacher: {type(error).__name__}: {error}", retryable=again), {}


def _give_up(client: Requests, group: dict[str, Any], detail: str) -> None:
    try:
        client.request("verdict", broken(group, detail, retryable=False))
    except (PeerTimeoutError, ProtocolError) as error:
        log.warning("%s; the group will be verified again", error)


def submissions_of(group: dict[str, Any]) -> list[Submission]:
    """One submission a completion of a leased group.

    A program may rely on the code in what its task says. What a template puts around that, and other roles' messages,
    are left out: a mark behind a closing fence would make the code go on.
    """
    reference = json.loads(group["reference"])
    prompt = "\n\n".join(content for role, content in group["messages"] if role == "user")
    rows = zip(group["texts"], group["truncated"], group["lengths"], strict=True)
    return [
        Submission(group["verifier"], text, reference, prompt, bool(truncated), length)
        for text, truncated, length in rows
    ]


def verdict_of(
    group: dict[str, Any], submissions: list[Submission], verdicts: list[Verdict], observe: Observer
) -> dict[str, Any]:
    """The answer to the replay. One completion that could not be verified spoils the group's comparison, so the
    whole group is verified again, elsewhere if possible."""
    failed = [v for v in verdicts if v.status is Status.INFRA_ERROR]
    if failed:
        # Another attempt is in vain where one of them says so.
        return broken(group, failed[0].detail, all(v.retryable for v in failed))
    last_number = any(s.reference.get("last_number") for s in submissions)
    seen = map(observe, submissions, verdicts)
    scores = [
        {"status": v.status, "reward": v.reward, "parts": v.parts,
         "answer": answer_of(s.response, last_number=last_number),
         "observed": o.values, "reflections": o.reflections}
        for s, v, o in zip(submissions, verdicts, seen, strict=True)
    ]  # fmt: skip
    return {"purpose": group["purpose"], "group_id": group["group_id"], "scores": scores}


def broken(group: dict[str, Any], detail: str, retryable: bool) -> dict[str, Any]:
    """The answer to the replay where a group could not be verified."""
    lease = {"purpose": group["purpose"], "group_id": group["group_id"]}
    return lease | {"scores": None, "detail": detail[:MAX_DETAIL], "retryable": retryable}
