"""The verifier: leases groups, scores them in its sandbox pool and returns verdicts."""

import logging
import threading
import time
from contextlib import closing
from typing import Any

from actors import process
from actors.errors import PeerTimeoutError
from actors.membership import Report
from actors.observability import metrics
from actors.roles.role import Description, RoleContext, enter
from actors.roles.verifier.preference import PreferenceReward, open_reward
from actors.transport.client import Client, Heartbeat
from sandbox import Pool, Status, Submission, Verdict, answer_of

log = logging.getLogger(__name__)

#: How often `run` looks whether its threads are alive (s).
WATCH_SECONDS = 1.0


class Verifier:
    """A role, see `actors.roles.role`. As many groups are scored at a time as the sandbox has workers."""

    def __init__(self, context: RoleContext) -> None:
        self._recipe, self._name, self._replay = context.recipe, context.name, context.replay
        self._folder = context.storage.folder
        self._preference: PreferenceReward | None = None
        self._up = False
        self._stopping = threading.Event()
        self._failure: Exception | None = None
        self._presence = enter(context.recipe, self._folder, context.name, context.replay)

    def describe(self) -> Description:
        return Description(self._presence.metrics)

    def stop(self) -> None:
        self._stopping.set()

    @process.logged
    def run(self) -> None:
        """Score until `stop` is called. Raises what broke a scoring thread, or kept the reward model from loading."""
        interval = self._recipe.membership.heartbeat_seconds
        with closing(Heartbeat(self._replay, self._name, "verifier", interval, self._report)):
            # No group is leased before its reward can be whole.
            self._preference = open_reward(self._recipe, self._folder, self._stopping.is_set)
            with Pool(self._recipe.sandbox, self._recipe.rewards) as pool:
                self._up = True
                self._score_in_threads(pool)
        if self._failure is not None:
            raise self._failure

    def _report(self) -> Report:
        return metrics.report("verifier", self._presence.metrics, ready=self._up)

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
        client = Client(self._replay, self._name, "verifier")
        body = {"capacity": self._recipe.verifiers.groups_per_lease}
        try:
            while not self._stopping.is_set():
                leased = client.poll("lease_verification", body)
                for group in leased.body["groups"] if leased else ():
                    self._score(pool, client, group)
        except Exception as error:
            log.exception("scoring failed")
            self._failure = error
            self._stopping.set()
        finally:
            client.close()

    def _score(self, pool: Pool, client: Client, group: dict[str, Any]) -> None:
        submissions = submissions_of(group)
        seconds = self._recipe.verifiers.deadline_seconds
        with metrics.busy("verifier"), metrics.VERIFICATION.time():
            deadline = time.monotonic() + seconds
            verdicts = pool.score(submissions, seconds)
            if self._preference is not None:
                verdicts = self._preference.added_to(verdicts, group, deadline)
        for verdict in verdicts:
            metrics.VERDICTS.labels(verdict.status).inc()
        try:
            client.request("verdict", verdict_of(group, submissions, verdicts))
        except PeerTimeoutError as error:
            log.warning("%s; the verdict is lost and the group will be verified again", error)


def submissions_of(group: dict[str, Any]) -> list[Submission]:
    """One submission a completion of a leased group."""
    rows = zip(group["texts"], group["truncated"], group["lengths"], strict=True)
    return [
        Submission(group["verifier"], text, group["reference"], group["prompt"], bool(truncated), length)
        for text, truncated, length in rows
    ]


def verdict_of(group: dict[str, Any], submissions: list[Submission], verdicts: list[Verdict]) -> dict[str, Any]:
    """The answer to the replay. One completion that could not be verified spoils the group's comparison, so the
    whole group is verified again, elsewhere if possible."""
    broken = [v for v in verdicts if v.status is Status.INFRA_ERROR]
    lease = {"purpose": group["purpose"], "group_id": group["group_id"]}
    if broken:
        return lease | {"scores": None, "detail": broken[0].detail[:500]}
    last_number = bool(group["reference"].get("last_number"))
    scores = [
        {"status": v.status, "reward": v.reward, "parts": v.parts,
         "answer": answer_of(s.response, last_number=last_number)}
        for s, v in zip(submissions, verdicts, strict=True)
    ]  # fmt: skip
    return lease | {"scores": scores}
