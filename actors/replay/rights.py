"""Which requests a client may send whose key is one role's alone, see `actors.transport.keys`.

A key that is no role's may send everything: on the machines that start a run, one key is that of all its processes.
"""

from actors.errors import ForbiddenError
from actors.replay import messages as m

#: What everybody says of itself, and has to know.
_EVERYBODY = (m.Beat, m.Directory, m.LeaveRun, m.RemoveMember)
_OF_ROLE: dict[str, tuple[type[m.Request], ...]] = {
    "generator": (m.Lease, m.GroupArrived, m.GroupRejected, m.ReportProgress, m.RenewLeases),
    "verifier": (m.LeaseVerification, m.SubmitVerdict, m.RenewLeases),
    "learner": (
        m.TakeBatch,
        m.TakePayloads,
        m.Trained,
        m.TakeSnapshot,
        m.Committed,
        m.Evaluate,
        m.EvaluationResult,
        m.Notice,
        m.Announce,
    ),
    "controller": (m.Events, m.Members, m.GetStatus, m.Announce),
}


def require(role: str | None, kind: str, request: m.Request) -> None:
    """Let pass what a key's role may send.

    Args:
        role: that the sender's key is for; None: every role.
        kind: of the request.
        request: what is asked.

    Raises:
        ForbiddenError: it may not.
    """
    if role is None:
        return
    if request.role != role:
        raise ForbiddenError(f"{kind}: the key is a {role}'s, and the sender says that it is a {request.role}")
    if not isinstance(request, (*_EVERYBODY, *_OF_ROLE.get(role, ()))):
        raise ForbiddenError(f"{kind} is no request of a {role}, which the key is for")
    if isinstance(request, m.Beat) and request.services and role != "learner":
        raise ForbiddenError(f"{kind}: a {role} has no service that others could look for")
    if isinstance(request, m.RemoveMember) and request.name != request.worker and role != "controller":
        raise ForbiddenError(f"{kind}: a {role} may take itself off the list, and nobody else")
