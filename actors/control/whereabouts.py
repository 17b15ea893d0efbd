"""Where a run's controller and replay are to be found: a file of the run folder, there while the run lives."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from learner.files import write_atomically

FILE = "controller.json"


class Whereabouts(BaseModel):
    """What the file says."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    url: str = Field(description="of the controller's status page")
    replay: str = Field("", description="address of the replay; empty before it is up")
    instance: str = Field(
        "", description="what this controller answers to /healthz; another run's may have its address"
    )

    def write(self, folder: Path) -> None:
        """Raises OSError where the file cannot be written."""
        write_atomically(folder / FILE, self.model_dump_json() + "\n")


def whereabouts(folder: Path) -> Whereabouts | None:
    """What the file of a run folder says; None where there is none, or it cannot be read."""
    try:
        return Whereabouts.model_validate_json((folder / FILE).read_bytes())
    except (OSError, ValidationError):
        return None


def forget(folder: Path) -> None:
    """The run is over."""
    (folder / FILE).unlink(missing_ok=True)
