"""What every section of the configuration tree has in common."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, PlainValidator
from pydantic_core import PydanticCustomError

from actors.storage.uris import Uri, is_uri, secret_in


class Section(BaseModel):
    """A frozen part of the tree that refuses keys it does not know, and deadlines and sizes that are infinite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def require_no_secret(uri: str) -> str:
    """Raises ValueError where a URI would show somebody's password to whoever reads the recipe."""
    if is_uri(uri) and secret_in(uri):
        raise ValueError(
            "has a user, a password or a signature in it, which everybody could read who reads the recipe; put "
            "credentials into the environment of the processes"
        )
    return uri


def _location(value: Any) -> Path | Uri:
    if isinstance(value, str) and is_uri(value):
        return Uri(require_no_secret(value))
    if isinstance(value, str | Path):
        return Path(value)
    raise PydanticCustomError("path_type", "Input is not a valid path")


#: A path, or a URI that each process resolves for itself: see `actors.storage.inputs.local`.
Location = Annotated[Path | Uri, PlainValidator(_location)]
