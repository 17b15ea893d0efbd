"""What generators and verifiers are told of the groups that they are leased."""

from collections.abc import Mapping
from typing import Any

from actors.replay.bundle import bundled
from actors.replay.changes import Key
from actors.replay.messages import Purpose
from actors.replay.queues import Entry
from actors.replay.records import GroupRecord, Leases
from actors.transport.codec import Array


def to_generate(purpose: Purpose, entry: Entry, record: GroupRecord, samples: int) -> dict[str, Any]:
    """What a generator is told of a group of so many completions."""
    told = {name: record.task[name] for name in ("key", "messages", "source")}
    return {"purpose": purpose, "group_id": entry.group_id, "task": entry.task, **told, "samples": samples}


def _to_verify(purpose: Purpose, group_id: int, record: GroupRecord) -> dict[str, Any]:
    """What a verifier is told of a group."""
    assert record.payload is not None
    return {
        "purpose": purpose,
        "group_id": group_id,
        "verifier": record.task["verifier"],
        "reference": record.task["reference"],
        "source": record.task["source"],
        "messages": record.task["messages"],
        "texts": list(record.texts),
        "truncated": record.payload.truncated.tolist(),
        "lengths": record.payload.lengths.tolist(),
    }


def groups_to_verify(
    leases: Leases, records: Mapping[Key, GroupRecord], teacher: bool
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Body and arrays of the reply that leases groups to a verifier. Where a teacher scores them, the training group at
    position i has its token ids beside it, as "i.prompt" and "i.tokens" of its `Payload`."""
    arrays: dict[str, Array] = {}
    for position, (purpose, entry) in enumerate(leases):
        payload = records[purpose, entry.group_id].payload
        if teacher and purpose == "train" and payload is not None:
            arrays |= bundled(position, {"prompt": payload.prompt, "tokens": payload.tokens})
    return {"groups": [_to_verify(p, e.group_id, records[p, e.group_id]) for p, e in leases]}, arrays
