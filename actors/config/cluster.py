"""What a run runs on, and how it keeps track of its processes."""

from pydantic import Field, model_validator

from actors.config.base import Section


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
