"""What a run writes and shows: files, a live display and a report, all folded from one stream of typed events."""
