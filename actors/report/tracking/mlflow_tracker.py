"""MLflow: a run of the experiment `leeway`, at MLFLOW_TRACKING_URI, or else in the run folder's `mlruns/`."""

import os
import time
from pathlib import Path
from typing import Any

from actors.report.trackers import Scalars

EXPERIMENT, NAME_TAG = "leeway", "leeway.run"


class MlflowTracker:
    def __init__(self, client: Any, run: str) -> None:
        self._client, self._run = client, run

    def log(self, scalars: Scalars) -> None:
        """In one request; MLflow has one axis, which is what the values are drawn over in TensorBoard."""
        from mlflow.entities import Metric

        now = round(1000 * time.time())
        metrics = [Metric(name, value, now, scalars.number) for name, value in scalars.values.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def close(self) -> None:
        """Say that the run has ended."""
        self._client.set_terminated(self._run)


def begin(folder: Path) -> MlflowTracker:
    """A run that resumes goes on where it was."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=os.environ.get("MLFLOW_TRACKING_URI", (folder / "mlruns").as_uri()))
    experiment = client.get_experiment_by_name(EXPERIMENT)
    number = experiment.experiment_id if experiment is not None else client.create_experiment(EXPERIMENT)
    found = client.search_runs([number], f"tags.`{NAME_TAG}` = '{folder.name}'", max_results=1)
    run = found[0] if found else client.create_run(number, run_name=folder.name, tags={NAME_TAG: folder.name})
    return MlflowTracker(client, run.info.run_id)
