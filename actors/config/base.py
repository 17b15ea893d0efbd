"""What every section of the configuration tree has in common."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A frozen part of the tree that refuses keys it does not know, and deadlines and sizes that are infinite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
