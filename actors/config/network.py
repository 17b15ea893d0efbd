"""How the processes of a run reach each other."""

import ipaddress
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from actors.config.base import Section


class PortsConfig(Section):
    """Ports, for firewalls and for whoever must find a service; all others are free ones of the operating system."""

    range: tuple[int, int] | None = Field(
        None,
        description="first and last port that any process of the run may listen on, on every node; default: any free "
        "port. A node needs one for each process's metrics, and some for replay, status page, weights and rendezvous; "
        "the connections that Gloo and NCCL open between ranks do not keep to it",
    )
    status: int = Field(0, ge=0, le=65535, description="port of the status page and /targets; 0 picks a free one")
    replay: int = Field(
        0, ge=0, le=65535, description="port of the replay, and with replay.shards those after it; 0 picks free ones"
    )

    @model_validator(mode="after")
    def _range_is_one(self) -> "PortsConfig":
        if self.range is not None and not 1 <= self.range[0] <= self.range[1] <= 65535:
            raise ValueError(f"range must be two ports from 1 to 65535, the smaller first, not {list(self.range)}")
        return self


class NetworkConfig(Section):
    """What servers bind, and the address that they tell others; the two are different things."""

    bind: str | None = Field(
        None,
        description="address that servers listen on, such as 0.0.0.0 or ::; default: loopback for a run on one "
        "machine, all addresses in a cluster",
    )
    advertise: str | None = Field(
        None,
        description="address under which others reach a process of this machine; default: loopback for a run on one "
        "machine, in a cluster each node's own address",
    )
    ports: PortsConfig = Field(default_factory=PortsConfig, description="fixed ports")
    curve: Literal["off", "required"] = Field(
        "off",
        description="required: the messages of all processes are encrypted, and only clients whose key is listed "
        "connect; every process finds its keys, see `leeway keys`; off: for a run on one machine",
    )
    http_token: Literal["changes", "everything"] = Field(
        "changes",
        description="what needs the run's token over HTTP: changes: all that changes something; everything: each page "
        "and /metrics too, but for /healthz and /readyz",
    )
    joining: list[Literal["generator", "verifier", "scorer"]] = Field(
        default_factory=list,
        description="roles of which processes may join from elsewhere, with `leeway up`; the run itself may then start "
        "none of them (generators.count: 0)",
    )

    @field_validator("bind", "advertise", mode="before")
    @classmethod
    def _has_no_brackets(cls, value: Any) -> Any:
        if isinstance(value, list):  # which brackets mean in YAML
            raise ValueError("must be an IPv4 or IPv6 address, without brackets or port")
        return value

    @field_validator("bind", "advertise")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                ipaddress.ip_address(value)
            except ValueError as error:
                raise ValueError("must be an IPv4 or IPv6 address, without brackets or port") from error
        return value

    @model_validator(mode="after")
    def _others_can_reach_what_is_advertised(self) -> "NetworkConfig":
        if self.advertise is None:
            return self
        advertise = ipaddress.ip_address(self.advertise)
        if advertise.is_unspecified:
            raise ValueError(f"advertise: {self.advertise} is no address that others can reach; it belongs in bind")
        bind = ipaddress.ip_address(self.bind) if self.bind else advertise
        if bind.version != advertise.version and bind != ipaddress.ip_address("::"):
            raise ValueError(
                f"advertise: {self.advertise} cannot be reached where servers listen on {self.bind} alone; set bind to "
                "::, or to an address of the same family"
            )
        return self


def exposed(network: NetworkConfig, in_cluster: bool) -> list[str]:
    """What others on the network could do to a run; no reason to refuse it, for a network may be one's own."""
    if network.curve == "required" or not (in_cluster or network.joining):
        return []
    return [
        "the processes of this run trust whoever can reach them, and what they say can be read on its way; make keys "
        "with `leeway keys`, and set network.curve: required"
    ]
