"""What a role is, and all that it is told: the seam between the pools and whatever starts them.

    Ray (control.supervisor)  ─┐
    another starter            ├──▶  build(role, context)  ──▶  describe, run, stop
    a test                    ─┘

A role knows nothing of who started it. Everything it needs is in its context, which travels to its process by value.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Protocol, runtime_checkable

from actors import process
from actors.config.base import Location
from actors.config.network import exposed
from actors.config.recipe import Recipe
from actors.observability import metrics
from actors.observability.exposition import serve
from actors.storage.inputs import local
from actors.transport import keys
from actors.transport.address import Node, bind_port, endpoints, is_elsewhere, resolve
from actors.transport.lifeline import Lifeline
from actors.transport.sockets import use_keys
from sandbox.gate import Token

log = logging.getLogger(__name__)

#: Nobody leaves sooner (s): where all processes of a run are signalled at once its driver is too, and ends the run.
LEAVE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Storage:
    """Where a run's files are.

    Attributes:
        folder: the run folder.
        model: the folder, or URI, of the model that training starts from; None for a role that needs none.
        checkpoint: the checkpoint that the run resumes from, if it does. It says where a replay with a journal begins;
            a learner, and a replay without one, look for themselves which of those in `folder` holds what was written.
        mark: by which another node knows the run folder, see `actors.storage.mark`; empty where there is none.
    """

    folder: Path
    model: Location | None = None
    checkpoint: Path | None = None
    mark: str = ""

    @property
    def model_folder(self) -> Path:
        """The model on this machine; fetched where it is a URI. Raises as `actors.storage.inputs.local`."""
        assert self.model is not None
        return local(self.model)


@dataclass(frozen=True, slots=True)
class RoleContext:
    """One process's share of a run.

    Attributes:
        recipe: the run's resolved recipe.
        name: unique among the run's processes, also of those that were there before; logs and metrics carry it.
        storage: where files are.
        replay: address of the replay, with commas between those of its shards; empty for the replay itself.
        seed: of what this process samples.
        rank: of a learner among its peers, of a shard of the replay among the shards.
        clock: seconds of a monotonic clock.
        lifeline: where the replay is now; it can move, and `replay` says where it was.
    """

    recipe: Recipe
    name: str
    storage: Storage
    replay: str = ""
    seed: int = 0
    rank: int = 0
    clock: Callable[[], float] = time.monotonic
    lifeline: Lifeline = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lifeline", Lifeline(self.replay, self.recipe.patience_seconds))


@dataclass(frozen=True, slots=True)
class Description:
    """Where a role that is up can be reached: `metrics` as host:port, `address` of its service where it has one."""

    metrics: str
    address: str = ""


@dataclass(frozen=True, slots=True)
class Presence:
    """A process's place in the network, and the address of its /metrics there."""

    node: Node
    metrics: str


def enter(recipe: Recipe, folder: Path, name: str, role: str | None, peer: str = "") -> Presence:
    """What every process of a run does first: find its place in the network, log to the run folder, serve its metrics.

    Args:
        recipe: the run's.
        folder: the run folder.
        name: of the process.
        role: whose metrics it exports; None: those of every process alone.
        peer: address of the replay, which it must reach, where there is one.

    Raises:
        RunError: no address, no port or no keys are to be had, and the message names the key.
    """
    peer, *_ = endpoints(peer)
    in_cluster = recipe.ray.address is not None or (bool(peer) and is_elsewhere(peer))
    node = resolve(recipe.network, in_cluster, peer)
    process.log_to(folder, name)
    for warning in exposed(recipe.network, in_cluster):
        log.warning("%s", warning)
    use_keys(keys.load() if recipe.network.curve == "required" else None)
    admits = Token(keys.ensure_token(folder)).matches if recipe.network.http_token == "everything" else lambda _: True
    metrics.begin(role)
    server = bind_port(node, lambda port: serve(node.bind, port, admits))
    return Presence(node, node.at(server.server_port))


class Role(Protocol):
    """One process of a run. `run` works until the role is done or `stop` is called, from another thread."""

    def describe(self) -> Description: ...

    def run(self) -> None: ...

    def stop(self) -> None: ...


@runtime_checkable
class Leaver(Role, Protocol):
    """A role of which a process can leave a run that goes on."""

    def drain(self) -> None:
        """Finish or give back what there is, then return from `run`; returns at once, and may be called again."""
        ...


#: Where each role's class is. Its constructor takes a `RoleContext`; what it imports is imported in its own process.
CLASSES = {
    "replay": "actors.roles.replay:ReplayRole",
    "generator": "actors.roles.generator:Generator",
    "verifier": "actors.roles.verifier.verifier:Verifier",
    "scorer": "actors.roles.scorer.scorer:Scorer",
    "learner": "actors.roles.learner.learner:Learner",
}


def build(role: str, context: RoleContext) -> Role:
    """The role's object, in this process. Raises KeyError for a role that there is none of."""
    module, _, name = CLASSES[role].partition(":")
    built: Role = getattr(import_module(module), name)(context)
    return built
