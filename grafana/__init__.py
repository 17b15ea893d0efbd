"""The dashboards of a run as code; `python -m grafana.generate` writes them as JSON into `dashboards/`."""
