"""What the network between learner and generators can carry, as it was measured before a run.

nccl-tests --JSON--> `of_nccl_tests` --> bandwidth.json in the output folder --> the controller's gauge
`leeway doctor`, with Gloo -------------------^
"""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from actors.errors import RecipeError
from learner.files import write_atomically

FILE = "bandwidth.json"


class Bandwidth(BaseModel):
    """What the file says."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    bytes_per_second: float = Field(gt=0, description="of one broadcast, counted once for all receivers")
    message_bytes: int = Field(gt=0, description="size of what was sent at a time")
    measured: str = Field(max_length=100, description="by what")

    def described(self) -> str:
        """In a line."""
        return f"{self.bytes_per_second / 1e9:.2f} GB/s at {self.message_bytes / 2**20:.0f} MiB"

    def write(self, folder: Path) -> None:
        """Raises OSError where the file cannot be written."""
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / FILE, self.model_dump_json() + "\n")


def bandwidth(folder: Path) -> Bandwidth | None:
    """What was measured for runs in an output folder; None where nothing was, or the file cannot be read."""
    try:
        return Bandwidth.model_validate_json((folder / FILE).read_bytes())
    except (OSError, ValidationError):
        return None


class _Timing(BaseModel):
    alg_bw: float = Field(ge=0, allow_inf_nan=False)
    nwrong: int | str = 0


class _Size(BaseModel):
    size: int = Field(gt=0)
    out_of_place: _Timing


class _Report(BaseModel):
    """The part of nccl-tests' JSON that is looked at; the rest holds the environment, and is read no further."""

    results: list[_Size] = Field(min_length=1)


def of_nccl_tests(data: bytes, bucket_bytes: int, name: str) -> Bandwidth:
    """What `broadcast_perf -J FILE` has measured at the size nearest to a bucket of weights.

    Args:
        data: contents of the file. `alg_bw` is in GB/s (1e9), and for a broadcast the same as `bus_bw`.
        bucket_bytes: size of a bucket of weights.
        name: of the file, for errors.

    Raises:
        RecipeError: it is no report of nccl-tests, or some received values were wrong.
    """
    try:
        found = _Report.model_validate_json(data).results
    except ValidationError as error:
        first: dict[str, Any] = dict(error.errors(include_input=False, include_url=False)[0])
        where = ".".join(map(str, first["loc"])) or "the file"
        raise RecipeError(f"{name}: is no JSON of nccl-tests (at {where}: {first['msg']}); write it with -J") from None
    if wrong := [size.size for size in found if str(size.out_of_place.nwrong) not in ("0", "N/A")]:
        raise RecipeError(f"{name}: values arrived wrong at {wrong[0]} bytes; this network must not carry weights")
    nearest = min(found, key=lambda size: abs(size.size - bucket_bytes))
    if not nearest.out_of_place.alg_bw:
        raise RecipeError(f"{name}: nothing was measured at {nearest.size} bytes")
    return Bandwidth(
        bytes_per_second=1e9 * nearest.out_of_place.alg_bw, message_bytes=nearest.size, measured="nccl-tests"
    )
