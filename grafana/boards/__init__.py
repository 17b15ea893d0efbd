"""What each dashboard shows: rows of panels, no Grafana in it."""
