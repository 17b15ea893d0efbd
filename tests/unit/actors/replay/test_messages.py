"""What goes into requests."""

from actors.replay.messages import by_purpose


def test_leases_are_renewed_by_purpose() -> None:
    leases = [("train", 3), ("evaluate", 1), ("train", 4)]
    told = by_purpose({"purpose": purpose, "group_id": group_id} for purpose, group_id in leases)
    assert told == {"train": [3, 4], "evaluate": [1]}
    assert by_purpose([]) == {}
