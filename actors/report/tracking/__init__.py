"""Trackers of others, one a file: each has `begin(folder)`, which gives an `actors.report.trackers.Tracker`."""
