"""The verifier: leases groups, scores them in its sandbox pool and returns verdicts."""

import logging
import threading
import time
from contextlib import closing
from functools import partial
from typing import Any

from actors import process
from actors.errors import PeerTimeoutError, ProtocolError
from actors.observability import metrics
from actors.replay.messages import MAX_DETAIL
from actors.roles.role import Description, RoleContext, enter
from actors.roles.verifier.preference import PreferenceReward, open_reward
from actors.transport.client import Client, Heartbeat
from sandbox import Pool, PoolClosedError, Status, Submission, Verdict, answer_of

log = logging.getLogger(__name__)

#: How often `run` looks whether its threads are alive (s).
WATCH_SECONDS = 1.0


class Verifier:
    """A role, see `actors.roles.role`. As many groups are scored at a time as the sandbox has workers."""

    def __init__(self, context: RoleContext) -> None:
        self._recipe, self._name, self._replay = context.recipe, context.name, context.replay
        self._folder = context.storage.folder
        self._preference: PreferenceReward | None = None
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
        report = partial(metrics.report, "verifier", self._presence.metrics)
        interval = self._recipe.membership.heartbeat_seconds
        with closing(Heartbeat(self._replay, self._name, "verifier", interval, report)):
            # No group is leased before its reward can be whole.
            self._preference = open_reward(self._recipe, self._folder, self._stopping.is_set)
            with Pool(self._recipe.sandbox, self._recipe.rewards) as pool:
                self._score_in_threads(pool)
        if self._failure is not None:
            raise self._failure

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
                self._score_all(pool, client, list(leased.body["groups"]) if leased else [])
        except Exception as error:
            log.exception("scoring failed")
            self._failure = error
            self._stopping.set()
        finally:
            client.close()

    def _score_all(self, pool: Pool, client: Client, groups: list[dict[str, Any]]) -> None:
        """One after another; the leases of those that wait for their turn are renewed."""
        renewed = time.monotonic()
        while groups and not self._stopping.is_set():
            if time.monotonic() - renewed > self._recipe.replay.verify_lease_seconds / 3:
                self._renew(client, groups)
                renewed = time.monotonic()
            self._score(pool, client, groups.pop(0))

    def _score(self, pool: Pool, client: Client, group: dict[str, Any]) -> None:
        try:
            with metrics.busy("verifier"), metrics.VERIFICATION.time():
                verdict = self._verdict(pool, group)
            client.request("verdict", verdict)
        except PeerTimeoutError as error:
            log.warning("%s; the verdict is lost and the group will be verified again", error)
        except ProtocolError as error:
            # Such as a verifier of the user's whose parts are not finite: it would say the same again.
            self._give_up(client, group, str(error))

    def _verdict(self, pool: Pool, group: dict[str, Any]) -> dict[str, Any]:
        """What the replay is told; whatever goes wrong with one group is its own infra_error and ends nothing."""
        seconds = self._recipe.verifiers.deadline_seconds
        deadline = time.monotonic() + seconds
        try:
            submissions = submissions_of(group)
            verdicts = pool.score(submissions, seconds)
            if self._preference is not None:
                verdicts = self._preference.added_to(verdicts, group, deadline)
            verdict = verdict_of(group, submissions, verdicts)
        except PoolClosedError:
            raise
        except Exception as error:
            log.exception("group %s could not be verified", group["group_id"])
            return broken(group, f"{type(error).__name__}: {error}", retryable=True)
        for found in verdicts:
            metrics.VERDICTS.labels(found.status).inc()
        return verdict

    def _give_up(self, client: Client, group: dict[str, Any], detail: str) -> None:
        log.warning("group %s: %s", group["group_id"], detail)
        try:
            client.request("verdict", broken(group, detail, retryable=False))
        except (PeerTimeoutError, ProtocolError) as error:
            log.warning("%s; the group will be verified again", error)

    def _renew(self, client: Client, groups: list[dict[str, Any]]) -> None:
        for purpose in ("train", "evaluate"):
            if group_ids := [group["group_id"] for group in groups if group["purpose"] == purpose]:
                try:
                    client.request("renew", {"purpose": purpose, "group_ids": group_ids})
                except (PeerTimeoutError, ProtocolError) as error:
                    log.warning("%s; some groups may be verified twice", error)


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
    failed = [v for v in verdicts if v.status is Status.INFRA_ERROR]
    if failed:
        # Another attempt is in vain where one of them says so.
        return broken(group, failed[0].detail, all(v.retryable for v in failed))
    last_number = bool(group["reference"].get("last_number"))
    scores = [
        {"status": v.status, "reward": v.reward, "parts": v.parts,
         "answer": answer_of(s.response, last_number=last_number)}
        for s, v in zip(submissions, verdicts, strict=True)
    ]  # fmt: skip
    return {"purpose": group["purpose"], "group_id": group["group_id"], "scores": scores}


def broken(group: dict[str, Any], detail: str, retryable: bool) -> dict[str, Any]:
    """The answer to the replay where a group could not be verified."""
    lease = {"purpose": group["purpose"], "group_id": group["group_id"]}
    return lease | {"scores": None, "detail": detail[:MAX_DETAIL], "retryable": retryable}
