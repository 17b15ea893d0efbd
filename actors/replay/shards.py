"""A replay in shards: which of them a request is for, and one answer from theirs. Pure.

kind                                     is for
group_arrived, group_rejected, progress  the shard that the group is of; where it is of an evaluation, the first
  verdict
renew, take_payloads                     the shards of the groups
take_batch, trained, snapshot, committed every shard: a batch is the shards' shares of it, in the order of their numbers
announce, deregister, remove_member,
  heartbeat, status
everything else                          the first: evaluations, and what the run's watchers are told, are there alone

Leases and the directory are to be had from any shard, see `replay.clients`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from actors.replay.bundle import bundled, unbundled
from actors.transport.codec import Array, Message

#: Where evaluations are, and what is said once.
FIRST = 0
OF_GROUP = frozenset({"group_arrived", "group_rejected", "progress", "verdict"})
OF_ALL = frozenset(
    {"take_batch", "trained", "snapshot", "committed", "announce", "deregister", "remove_member", "status"}
)
#: Everybody who asks has done without an answer before: whoever is away for a while is not waited for.
BRIEF = frozenset(
    {"lease", "lease_verification", "directory", "renew", "progress", "verdict", "deregister", "remove_member"}
)

Body = Mapping[str, Any]


def shard_of(purpose: str, group_id: int, shards: int) -> int:
    """The shard that a group is of."""
    return group_id % shards if purpose == "train" else FIRST


def service_of(shard: int) -> str:
    """What the directory calls a shard."""
    return f"replay-{shard}"


def parts_of(kind: str, body: Body, shards: int) -> dict[int, Body]:
    """What each shard is asked, by its number; whoever has no part is not asked."""
    if kind in OF_GROUP:
        return {shard_of(body["purpose"], body["group_id"], shards): body}
    if kind in OF_ALL:
        return dict.fromkeys(range(shards), body)
    if kind == "renew":
        found = _by_shard([shard_of(body["purpose"], group_id, shards) for group_id in body["group_ids"]])
        return {s: {**body, "group_ids": [body["group_ids"][i] for i in mine]} for s, mine in found.items()}
    if kind == "take_payloads":
        found = _by_shard([group["group_id"] % shards for group in body["groups"]])
        return {s: {**body, "groups": [body["groups"][i] for i in mine]} for s, mine in found.items()}
    return {FIRST: body}


def _by_shard(shards: Sequence[int]) -> dict[int, list[int]]:
    """Positions by the shard that stands there."""
    found: dict[int, list[int]] = {}
    for position, shard in enumerate(shards):
        found.setdefault(shard, []).append(position)
    return dict(sorted(found.items()))


def joined(kind: str, body: Body, replies: Mapping[int, Message], shards: int) -> Message:
    """The one answer to a request of which each shard has answered its part."""
    parts = [replies[shard] for shard in sorted(replies)]
    match kind:
        case "take_batch":
            return _end_to_end(parts)
        case "take_payloads":
            # The groups of each shard, and then in the order of the request.
            place = _by_shard([group["group_id"] % shards for group in body["groups"]])
            order = [position for shard in sorted(replies) for position in place[shard]]
            return _in_order(_end_to_end(parts), order)
        case "snapshot":
            found = [part.body["snapshot"] for part in parts]
            return Message("reply", 0, {"snapshot": {"version": body["version"], "shards": found}})
        case "renew":
            return Message("reply", 0, {"lost": [group_id for part in parts for group_id in part.body["lost"]]})
        case "status":
            return Message("reply", 0, added([part.body for part in parts]))
        case _:
            return parts[0]


def _end_to_end(parts: Sequence[Message]) -> Message:
    groups: list[Any] = []
    arrays: dict[str, Array] = {}
    for part in parts:
        own = part.body["groups"]
        for position, mine in enumerate(unbundled(part.arrays, len(own))):
            arrays |= bundled(len(groups) + position, mine)
        groups += own
    return Message("reply", 0, {"groups": groups}, arrays)


def _in_order(reply: Message, order: Sequence[int]) -> Message:
    """The groups at the positions that `order` names, one a group."""
    groups, sets = reply.body["groups"], unbundled(reply.arrays, len(order))
    arrays: dict[str, Array] = {}
    by_place = sorted(zip(order, groups, sets, strict=True), key=lambda item: item[0])
    for place, _, own in by_place:
        arrays |= bundled(place, own)
    return Message("reply", 0, {"groups": [group for _, group, _ in by_place]}, arrays)


def added(statuses: Sequence[Body]) -> dict[str, Any]:
    """What `Buffer.status` says of all shards together: the counts of each are conserved, and so is their sum."""
    groups: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    queues: Counter[str] = Counter()
    for status in statuses:
        counts = dict(status["groups"])
        dropped.update(counts.pop("dropped"))
        groups.update(counts)
        queues.update(status["queues"])
    return {
        **statuses[FIRST],
        "version": min(status["version"] for status in statuses),
        "conserved": all(status["conserved"] for status in statuses),
        "queues": dict(queues),
        "groups": {**groups, "dropped": dict(dropped)},
        "refusals": {reason: said for status in statuses for reason, said in status["refusals"].items()},
    }


def snapshots_of(snapshot: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Each shard's position in a checkpoint, see `Ledger.snapshot`; one shard's stands there by itself."""
    return list(snapshot["shards"]) if "shards" in snapshot else [snapshot]
