"""What a run runs on, and how it keeps track of its processes."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from actors.config.base import Section

#: Whose processes Ray places.
PlacedRole = Literal["controller", "replay", "generator", "verifier", "scorer", "learner"]


class RayConfig(Section):
    """The Ray cluster of a run."""

    address: str | None = Field(
        None, description="cluster to join; default: start one on this machine, for this run only"
    )
    num_cpus: int = Field(
        4, ge=1, description="CPUs that a cluster of our own offers (logical); more where the pools ask for more"
    )
    object_store_bytes: int = Field(
        128 * 2**20, ge=80 * 2**20, description="object store of a cluster of our own (bytes)"
    )
    resources: dict[PlacedRole, dict[str, Annotated[float, Field(gt=0)]]] = Field(
        default_factory=dict,
        description="custom resources that one process of a role asks of the cluster that is joined, so that it lands "
        "on the nodes that offer them; without ray.address nobody asks for them",
    )


class MembershipConfig(Section):
    """The one list of who is alive, and the one timeout that takes a process off it."""

    heartbeat_seconds: float = Field(1.0, gt=0, description="time between two heartbeats of a process (s)")
    timeout_seconds: float = Field(
        20.0,
        gt=0,
        description="a process not heard of for this long is taken off the list (s): its leases are revoked and it "
        "gets no weights until it is heard of again",
    )

    @model_validator(mode="after")
    def _some_heartbeats_may_be_lost(self) -> "MembershipConfig":
        if self.timeout_seconds < 3 * self.heartbeat_seconds:
            raise ValueError("timeout_seconds must be at least three times heartbeat_seconds")
        return self


class PoolBounds(Section):
    """How far the autoscaler may go with a pool."""

    min: int = Field(1, ge=1, description="fewest processes of the pool")
    max: int = Field(1, ge=1, description="most processes of the pool")

    @model_validator(mode="after")
    def _in_order(self) -> "PoolBounds":
        if self.min > self.max:
            raise ValueError("min is larger than max")
        return self


class AutoscaleConfig(Section):
    """Sizes the pools while the run goes on; the rule stands in actors/control/autoscaler.py."""

    generators: PoolBounds = Field(default_factory=PoolBounds, description="how many generators there may be")
    verifiers: PoolBounds = Field(default_factory=PoolBounds, description="how many verifiers there may be")
    scorers: PoolBounds | None = Field(
        None, description="how many scorers there may be, in a run that has some; default: as many as scorers.count"
    )
    hold_seconds: float = Field(
        60.0, ge=0, description="a pool is changed only where the rule has said so for this long (s)"
    )
    cooldown_seconds: float = Field(
        300.0,
        ge=0,
        description="time after a change in which a pool is left alone; longer than a process takes to come up (s)",
    )

    def bounds(self, role: str) -> PoolBounds | None:
        """Of a pool; None where it stays as it is."""
        return {"generator": self.generators, "verifier": self.verifiers, "scorer": self.scorers}.get(role)
