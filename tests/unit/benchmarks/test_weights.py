"""What `python -m benchmarks weights` makes of its measurements."""

from benchmarks.weights import Update, row


def test_each_update_is_compared_with_the_bare_broadcast_beside_it() -> None:
    updates = [
        Update(total=1.0, transfer=0.8, pause=0.08, hold=0.05, bare=0.5),
        Update(total=2.0, transfer=1.0, pause=0.10, hold=0.10, bare=1.8),
        Update(total=4.0, transfer=2.0, pause=0.20, hold=0.20, bare=3.2),
    ]
    found = row(3, 4_000, updates)
    assert (found.receivers, found.bytes, found.bytes_per_second) == (3, 4_000, 2_000)
    assert (found.share_of_bare, found.pause_share, found.hold_share) == (0.8, 0.1, 0.05)
