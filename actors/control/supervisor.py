"""The actors of a run as Ray sees them: started, watched, restarted, ended."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray

from actors.errors import RunError
from actors.roles.role import Description

log = logging.getLogger(__name__)

#: Longest wait for an actor's process to start and answer (s); imports of torch and vLLM take most of it.
START_SECONDS = 300.0
#: How long an actor has to end by itself once it is told to (s).
STOP_SECONDS = 15.0


@dataclass(slots=True)
class Member:
    """One actor and the reference of its `run`."""

    role: str
    name: str
    handle: Any
    running: Any
    metrics_port: int | None = None


class Pool:
    """All actors of one run. `spawn` starts one; `fallen` says which have ended."""

    def __init__(self) -> None:
        self.members: dict[str, Member] = {}

    def spawn(
        self, role: str, name: str, build: Callable[..., Any], arguments: tuple[Any, ...], cpus: float, gpus: float = 0
    ) -> Member:
        """Start `build(*arguments)` in a process of its own and call its `run`."""
        handle = (
            ray.remote(build)
            .options(num_cpus=cpus, num_gpus=gpus, max_concurrency=8, max_restarts=0)
            .remote(*arguments)
        )
        member = Member(role, name, handle, handle.run.remote())
        self.members[name] = member
        return member

    def describe(self, member: Member) -> dict[str, Any]:
        """What the actor says of itself once it is up. Raises RunError where it does not come up."""
        try:
            described: Any = ray.get(member.handle.describe.remote(), timeout=START_SECONDS)
        except (ray.exceptions.RayError, ray.exceptions.GetTimeoutError) as error:
            raise RunError(f"{member.name} did not start: {first_line(error)}; see logs/{member.name}.log") from error
        if isinstance(described, Description):  # the replay is a role already, the others are dictionaries yet
            port = int(described.metrics.rpartition(":")[2])
            described = {"metrics_port": port, "address": described.address}
        member.metrics_port = described["metrics_port"]
        found: dict[str, Any] = described
        return found

    def fallen(self, seconds: float) -> list[tuple[Member, str | None]]:
        """Wait up to `seconds` for an actor to end; each that has, with why, or None where its `run` returned."""
        by_ref = {member.running: member for member in self.members.values()}
        done, _ = ray.wait(list(by_ref), num_returns=1, timeout=seconds)
        found = []
        for ref in done:
            member = by_ref[ref]
            del self.members[member.name]
            try:
                ray.get(ref, timeout=1)
                found.append((member, None))
            except ray.exceptions.RayError as error:
                found.append((member, first_line(error)))
        return found

    def stop(self, members: list[Member]) -> None:
        """Tell the actors to end, wait, and kill whoever does not."""
        for member in members:
            member.handle.stop.remote()
        references = [member.running for member in members]
        if references:
            ray.wait(references, num_returns=len(references), timeout=STOP_SECONDS)
        for member in members:
            ray.kill(member.handle)
            self.members.pop(member.name, None)

    def of(self, *roles: str) -> list[Member]:
        return [member for member in self.members.values() if member.role in roles]


def first_line(error: BaseException) -> str:
    """What went wrong, without Ray's traceback."""
    if "SYSTEM_ERROR" in str(error):
        return "its process was killed, or crashed"
    cause = getattr(error, "cause", None) or error
    lines = str(cause).strip().splitlines() or [type(cause).__name__]
    return f"{type(cause).__name__}: {lines[-1].strip()[:300]}"
