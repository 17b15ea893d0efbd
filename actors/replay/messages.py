"""The bodies of the requests that the replay answers. Arrays travel beside them, see `actors.transport.codec`.

kind                              asked by     answered by
lease, group_arrived, …_rejected, generator    buffer
  progress
lease_verification, verdict       verifier     buffer
renew                             generator,   buffer
                                    verifier
take_batch, take_payloads,        learner      buffer
  trained, snapshot, committed,
  evaluate, …_result
status                            controller   buffer
heartbeat, announce, directory,   everyone     board
  notice, deregister
events, members, remove_member    controller   board
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat

from actors.config.base import Section
from actors.events import EventField, Number
from actors.membership import NAME, Report
from actors.observability.metrics import BANDS

Purpose = Literal["train", "evaluate", "sample"]
#: Longest explanation that travels with a refusal (characters).
MAX_DETAIL = 500


def by_purpose(leases: Iterable[Mapping[str, Any]]) -> dict[Purpose, list[int]]:
    """The group_ids of leases, as a request to renew them takes them."""
    found: dict[Purpose, list[int]] = {}
    for lease in leases:
        found.setdefault(lease["purpose"], []).append(lease["group_id"])
    return found


class Request(Section):
    """What every request carries. One that is sent again has the same `client` and the same number, see
    `actors.replay.answers`."""

    worker: str = Field(pattern=NAME, max_length=200, description="unique name of the sender")
    role: Literal["generator", "verifier", "scorer", "learner", "controller"] = Field(description="what the sender is")
    client: str = Field("", max_length=40, description="which of the sender's connections has numbered the request")
    settled: int = Field(0, ge=0, description="requests of that connection below this number never come again")


class LongPoll(Request):
    wait_seconds: float = Field(0.0, ge=0, le=60, description="longest wait for something to answer (s)")


class Lease(LongPoll):
    """A generator that holds `version` can take `capacity` more groups."""

    version: int = Field(ge=0)
    capacity: int = Field(ge=1, le=4096)


class GroupArrived(Request):
    """A group is complete; its arrays are a `Payload`."""

    purpose: Purpose
    group_id: int = Field(ge=0)
    prompt: str
    texts: list[str] = Field(min_length=1, max_length=4096)


class GroupRejected(Request):
    """A leased task cannot become a group."""

    purpose: Purpose
    group_id: int = Field(ge=0)
    reason: Literal["overlong", "malformed"]
    detail: str = Field("", max_length=MAX_DETAIL, description="why, in a line")


class RenewLeases(Request):
    """The sender works on these groups: their leases begin anew."""

    purpose: Purpose
    group_ids: list[int] = Field(min_length=1, max_length=4096)


class LeaseVerification(LongPoll):
    """A verifier can take `capacity` groups."""

    capacity: int = Field(ge=1, le=4096)


class CompletionVerdict(Section):
    """The verdict on one completion."""

    status: str = Field(max_length=40)
    reward: float = Field(allow_inf_nan=False)
    parts: dict[str, FiniteFloat] = Field(default_factory=dict, max_length=32)
    answer: str | None = None
    observed: dict[str, FiniteFloat] = Field(
        default_factory=dict, max_length=32, description="statistics that are means over completions, by name"
    )
    reflections: list[tuple[int, int]] = Field(
        default_factory=list, max_length=64, description="where the first words of reflection stand (characters)"
    )


class SubmitVerdict(Request):
    """The verdicts on a group, or none where verification itself broke."""

    purpose: Purpose
    group_id: int = Field(ge=0)
    scores: list[CompletionVerdict] | None
    detail: str = Field("", max_length=MAX_DETAIL, description="what broke, in a line")
    retryable: bool = Field(True, description="whether another attempt may go well where verification broke")


class TakeBatch(LongPoll):
    version: int = Field(ge=0)
    outlines: bool = Field(False, description="without tokens, which a learner of several ranks takes by shares")


class Tally(Section):
    """What the groups of one shard say of a step, see `replay.rewards`."""

    groups: int = Field(ge=0)
    mixed: int = Field(ge=0, description="those whose rewards are not all equal")
    rewards: dict[str, tuple[FiniteFloat, Annotated[int, Field(ge=1)]]] = Field(
        max_length=1024, description="their sum and their number, by source"
    )
    lengths: dict[str, tuple[FiniteFloat, Annotated[int, Field(ge=1)]]] = Field(
        max_length=1024, description="the same of the tokens of their completions"
    )
    observed: dict[str, tuple[FiniteFloat, Annotated[int, Field(ge=1)]]] = Field(
        {}, max_length=64, description="the same of what verifiers saw in completions, by name"
    )
    bands: dict[str, Annotated[int, Field(ge=0)]] = Field(
        max_length=len(BANDS), description="how often tasks were solved, and how many of them"
    )


class Trained(Request):
    """The batch of `version` went into an optimizer step, which took `step_seconds`."""

    version: int = Field(ge=0)
    statistics: dict[str, Number]
    staleness: dict[int, int]
    step_seconds: FiniteFloat = Field(ge=0)
    tallies: list[Tally] = Field([], max_length=64, description="what the other shards have answered to the same")


class TakeSnapshot(Request):
    version: int = Field(ge=0)


class Committed(Request):
    version: int = Field(ge=0)


class Evaluate(Request):
    """Answer and score all held-out tasks, or the first `training` training tasks, `samples` times each; `keep` every
    completion in a file of the run folder, with `provenance`."""

    name: str = Field(pattern=r"^[\w][\w -]*$", max_length=80)
    version: int = Field(ge=0)
    samples: int = Field(ge=1, le=4096)
    training: int = Field(0, ge=0)
    keep: bool = False
    provenance: dict[str, str | int] = Field(default_factory=dict, max_length=16)


class EvaluationResult(Request):
    """Asks how an evaluation stands, see `Evaluations.standing`."""

    evaluation: int = Field(ge=0)


class Notice(Request):
    """An event for whoever watches the run."""

    event: EventField


class Events(LongPoll):
    """All events after the one with the number `after`."""

    after: int = Field(ge=0)


class GetStatus(Request):
    """The counters of the ledger."""


class Beat(Request):
    """The sender is alive, and says how it is doing. A learner is told who else is, `{"alive": {role: [names]}}`, and a
    verifier where it can ask, `{"scorers": {name: address}}`."""

    report: Report | None = Field(None, description="absent: as reported last")
    services: dict[Literal["weights", "learner"], Annotated[str, Field(max_length=200)]] = Field(
        default_factory=dict, description="where services of the sender are, as `Announce` says it once"
    )


class Members(Request):
    """Asks for everyone who is alive or silent with their reports, and for each role's totals since the run's start."""

    only: str = Field("", max_length=40, description="role of those who are asked for; empty: everyone")


class RemoveMember(Request):
    """The process called `name` has exited: its leases are revoked without waiting for the heartbeat timeout."""

    name: str = Field(pattern=NAME, max_length=200)


class Announce(Request):
    """Where a service of the run is to be found: the learner's, or `replay-N`, the shard of that number."""

    service: Literal["weights", "learner"] | Annotated[str, Field(pattern=r"^replay-[0-9]{1,4}$")]
    address: str = Field(max_length=200)


class Directory(Request):
    """Asks for all announced addresses."""


class ReportProgress(Request):
    """A leased group has new tokens: its lease begins anew. The arrays are those of `actors.replay.progress`."""

    purpose: Purpose
    group_id: int = Field(ge=0)


class LeaveRun(Request):
    """The sender leaves: it gives back what it holds, which counts as no failure of anybody."""


class WantedGroup(Section):
    group_id: int = Field(ge=0)
    completions: list[Annotated[int, Field(ge=0)]] = Field(min_length=1, max_length=4096)


class TakePayloads(Request):
    """The payloads of some completions of the batch of `version`, see `replay.shares`."""

    version: int = Field(ge=0)
    groups: list[WantedGroup] = Field(min_length=1, max_length=65_536)


#: Answered by `replay.board`: what concerns the run as a whole.
BoardRequest = Notice | Events | Beat | Members | RemoveMember | Announce | Directory | LeaveRun
#: Answered by `replay.buffer`: what concerns groups, batches and evaluations.
BufferRequest = (
    Lease
    | GroupArrived
    | GroupRejected
    | RenewLeases
    | LeaseVerification
    | SubmitVerdict
    | TakeBatch
    | Trained
    | TakeSnapshot
    | Committed
    | Evaluate
    | EvaluationResult
    | GetStatus
    | ReportProgress
    | TakePayloads
)
AnyRequest = BoardRequest | BufferRequest

REQUESTS: dict[str, type[AnyRequest]] = {
    "lease": Lease,
    "group_arrived": GroupArrived,
    "group_rejected": GroupRejected,
    "renew": RenewLeases,
    "lease_verification": LeaseVerification,
    "verdict": SubmitVerdict,
    "take_batch": TakeBatch,
    "trained": Trained,
    "snapshot": TakeSnapshot,
    "committed": Committed,
    "evaluate": Evaluate,
    "evaluation_result": EvaluationResult,
    "notice": Notice,
    "events": Events,
    "status": GetStatus,
    "heartbeat": Beat,
    "members": Members,
    "remove_member": RemoveMember,
    "announce": Announce,
    "directory": Directory,
    "progress": ReportProgress,
    "deregister": LeaveRun,
    "take_payloads": TakePayloads,
}
