"""What clients were answered: a request that is sent again changes nothing twice, and gets the answer of the first.

A client numbers its requests, and sends one again under the same number where no answer comes. The first may have been
taken all the same: its answer was lost with the connection, or the replay died between the commit of the call to its
journal and the answer. What such a request was answered is part of the replay's state, and so in the journal with what
it has changed. With every request a client says which of its numbers are settled: answers below are forgotten.

Leases are remembered by the groups alone, and told again as they are by then. What is not `REMEMBERED` says the same by
itself when it comes again (the batch of a version, what is trained or committed), or says what holds now (what of its
leases the sender has lost, how much of a group is known).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from actors.replay import messages as m

REMEMBERED = (m.Lease, m.LeaseVerification, m.GroupArrived, m.GroupRejected, m.SubmitVerdict, m.Evaluate)
#: Answers to one worker that are kept at most, and workers: far more than can wait for one. The oldest go first.
MOST_ANSWERS, MOST_WORKERS = 1024, 16_384

#: A worker's client, and the number that this has given a request.
Asked = tuple[str, int]


@dataclass(slots=True)
class Answers:
    """See the module's docstring. An answer is whatever MessagePack can hold, but None."""

    _given: dict[str, dict[Asked, tuple[str, Any]]] = field(default_factory=dict)

    def given(self, worker: str, client: str, number: int, settled: int, kind: str, answer: Any) -> None:
        """A request has changed something.

        Args:
            worker: who sent it.
            client: by which of its connections.
            number: which that connection has given it.
            settled: requests of the connection below this number never come again.
            kind: of the request.
            answer: what is to be remembered of its answer.
        """
        before = self._given.pop(worker, {})
        kept = {asked: said for asked, said in before.items() if asked[0] != client or asked[1] >= settled}
        kept[client, number] = kind, answer
        self._given[worker] = kept
        if len(kept) > MOST_ANSWERS:
            del kept[next(iter(kept))]
        if len(self._given) > MOST_WORKERS:
            del self._given[next(iter(self._given))]

    def again(self, worker: str, client: str, number: int, kind: str) -> Any:
        """What was remembered of the answer to a request; None where it comes for the first time."""
        before, answer = self._given.get(worker, {}).get((client, number), (kind, None))
        return answer if before == kind else None

    def forget(self, worker: str) -> bool:
        """A worker is gone, and what it held is revoked; whether anything was remembered."""
        return self._given.pop(worker, None) is not None

    def state(self) -> dict[str, Any]:
        """Everything, as MessagePack can hold it; `restored` takes it back."""
        return {
            worker: [[client, number, kind, answer] for (client, number), (kind, answer) in given.items()]
            for worker, given in self._given.items()
        }

    @classmethod
    def restored(cls, state: Mapping[str, Sequence[Sequence[Any]]]) -> "Answers":
        """What `state` was taken of."""
        return cls(
            {
                worker: {(client, number): (kind, answer) for client, number, kind, answer in given}
                for worker, given in state.items()
            }
        )


def to_remember(body: Mapping[str, Any]) -> Any:
    """What of an answer's body is remembered: of leases purpose and group_id."""
    leased = body.get("tasks", body.get("groups"))
    return dict(body) if leased is None else [[one["purpose"], one["group_id"]] for one in leased]


#: Methods that change nothing.
READS = ("again", "state")
