"""What learner and generators tell each other about weights; the bytes themselves travel in the broadcast group.

generator ──▶ learner    register, deregister, answer
learner ──▶ generator    open, start, update, finish, each answered under its id; abort, rejoin, error

What belongs to one membership epoch carries its number: a message of an epoch that was given up changes nothing.
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from actors.config.base import Section
from actors.membership import NAME

#: Names, dtypes and shapes of a hundred thousand tensors take a tenth of it.
MAX_BYTES = 64 * 2**20


class Register(Section):
    """The sender wants weights. It is repeated, in case the learner has forgotten the sender or never heard of it."""

    name: str = Field(pattern=NAME, max_length=200, description="unique name of the generator")
    workers: int = Field(ge=1, le=4096, description="ranks that it has in a broadcast group")
    version: int | None = Field(None, ge=0, description="policy version that it holds; null: no weights yet")


class Deregister(Section):
    """The sender wants no more weights."""

    name: str = Field(pattern=NAME, max_length=200)


class Answer(Section):
    """A call was carried out, or broke."""

    name: str = Field(pattern=NAME, max_length=200)
    pause_seconds: float = Field(0.0, ge=0, description="how long generation was paused for it (s)")
    error: str = Field("", description="what broke; empty where nothing did")


class EpochMessage(Section):
    epoch: int = Field(ge=1, description="number of the membership epoch")


class Open(EpochMessage):
    """Join the broadcast group of a new epoch; whatever was open is given up. The fields are those of `GroupInfo`."""

    backend: Literal["gloo", "nccl"]
    master_address: str = Field(min_length=1, max_length=200)
    master_port: int = Field(ge=1, le=65535)
    rank_offset: int = Field(ge=1, description="rank of the generator's first worker")
    world_size: int = Field(ge=2, description="all workers of all generators, and the learner")
    bucket_bytes: int = Field(ge=1, description="as the recipe has it (bytes)")
    deadline_seconds: float = Field(gt=0, description="longest wait for another rank (s)")


class Start(EpochMessage):
    """An update is about to come."""


class MergingBody(Section):
    """The fields of `learner.model.merging.Merging`."""

    scale: float
    dtype: str
    base: str


class Update(EpochMessage):
    """The tensors of an update, in the order in which they are sent; with `merging` they are adapters alone."""

    names: list[str]
    dtype_names: list[Literal["float32", "bfloat16"]]
    shapes: list[list[int]]
    merging: MergingBody | None = None
    delta: bool = Field(False, description="whether what has changed is sent, since the update before of this epoch")

    @model_validator(mode="after")
    def _lists_belong_together(self) -> Self:
        if not len(self.names) == len(self.dtype_names) == len(self.shapes):
            raise ValueError("names, dtype_names and shapes differ in length")
        return self


class Finish(EpochMessage):
    """Swap the received weights in."""

    version: int = Field(ge=0, description="policy version that they are")


class Abort(EpochMessage):
    """Somebody else broke the update: give the epoch up, and go on under the old version until the next."""


class Rejoin(Section):
    """The receiver was evicted: it is to give up what is open, and to register anew."""


class Error(Section):
    """A message was malformed."""

    message: str


TO_LEARNER: dict[str, type[Section]] = {"register": Register, "deregister": Deregister, "answer": Answer}
TO_GENERATOR: dict[str, type[Section]] = {
    "open": Open,
    "start": Start,
    "update": Update,
    "finish": Finish,
    "abort": Abort,
    "rejoin": Rejoin,
    "error": Error,
}
