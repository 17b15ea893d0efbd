"""Where a run keeps a second copy of itself."""

from pydantic import Field

from actors.config.base import Location, Section


class StorageConfig(Section):
    """A mirror of checkpoints, models and record. The replay's journal stays on the run's own disk."""

    mirror: Location | None = Field(
        None,
        description="URI, or path, under which every run has a folder of its name: record, newest checkpoints, trained "
        "model. `leeway run --resume URI/RUN` resumes from there on a machine without the run folder",
    )
    keep_last: int = Field(3, ge=1, description="verified checkpoints that are kept in the mirror")
    interval_seconds: float = Field(30.0, gt=0, description="time between two looks for what is to be mirrored (s)")
    finish_seconds: float = Field(
        3600.0, ge=0, description="longest wait for the mirror once the run is finished (s); one that is late fails it"
    )
