"""What learner and generators tell each other about weights; the bytes themselves travel in broadcast groups.

generator ──▶ learner    register, deregister, answer
learner ──▶ generator    open, start, update, finish, each answered under its id; abort, rejoin, error

Where several ranks of the learner send, the first one alone speaks to the generators, and to the others as to them:

sender ──▶ first rank    register_sender, deregister, answer
first rank ──▶ sender    open, start, describe, update, finish, each answered under its id; abort, rejoin, error

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


class RegisterSender(Section):
    """The sender is a rank of the learner that has a stripe of the weights. It is repeated, too."""

    name: str = Field(pattern=NAME, max_length=200, description="name of the rank's process")


class Deregister(Section):
    """The sender wants no more weights, or sends none any more."""

    name: str = Field(pattern=NAME, max_length=200)


class TensorList(Section):
    """Some tensors, in the order in which they are sent."""

    names: list[str]
    dtype_names: list[Literal["float32", "bfloat16"]]
    shapes: list[list[int]]

    @model_validator(mode="after")
    def _lists_belong_together(self) -> Self:
        if not len(self.names) == len(self.dtype_names) == len(self.shapes):
            raise ValueError("names, dtype_names and shapes differ in length")
        return self


class Answer(Section):
    """A call was carried out, or broke. From `meets_at` on it is what senders add: to open, start, describe, finish."""

    name: str = Field(pattern=NAME, max_length=200)
    pause_seconds: float = Field(0.0, ge=0, description="how long generation was paused for it (s)")
    error: str = Field("", description="what broke; empty where nothing did")
    meets_at: str = Field("", max_length=300, description="host:port at which the group of its stripe meets")
    superseded: bool = Field(False, description="whether it holds a newer version by now, and not the one asked for")
    stripe: TensorList | None = Field(None, description="what it is going to send")
    sent_bytes: int = Field(0, ge=0, description="of its stripe, counted once (bytes)")


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
    meet_at: list[str] | None = Field(
        None, max_length=4096, description="host:port of the groups of the other stripes, in which ranks are the same"
    )


class Start(EpochMessage):
    """An update is about to come."""


class MergingBody(Section):
    """The fields of `learner.model.merging.Merging`."""

    scale: float
    dtype: str
    base: str


class Update(TensorList, EpochMessage):
    """The tensors of an update, in the order in which they are sent; with `merging` they are adapters alone."""

    merging: MergingBody | None = None
    delta: bool = Field(False, description="whether what has changed is sent, since the update before of this epoch")
    stripes: list[int] | None = Field(None, description="how many of the tensors each stripe has; null: there is one")


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


class OpenStripe(EpochMessage):
    """Form the broadcast group of a stripe, as its rank 0; whatever was open is given up."""

    world_size: int = Field(ge=2, description="all workers of all generators, and the sender")


class StartStripe(EpochMessage):
    """An update is about to come: keep your stripe of it until it is over."""

    version: int = Field(ge=0, description="policy version")


class DescribeStripe(EpochMessage):
    """Say what you are going to send, once it can be read and everybody has met."""


class SendStripe(EpochMessage):
    """Everybody receives: send."""

    delta: bool = Field(description="as `Update` has it")


class FinishStripe(EpochMessage):
    """Say when everything is sent."""


TO_LEARNER: dict[str, type[Section]] = {
    "register": Register,
    "register_sender": RegisterSender,
    "deregister": Deregister,
    "answer": Answer,
}
TO_GENERATOR: dict[str, type[Section]] = {
    "open": Open,
    "start": Start,
    "update": Update,
    "finish": Finish,
    "abort": Abort,
    "rejoin": Rejoin,
    "error": Error,
}
TO_SENDER: dict[str, type[Section]] = {
    "open": OpenStripe,
    "start": StartStripe,
    "describe": DescribeStripe,
    "update": SendStripe,
    "finish": FinishStripe,
    "abort": Abort,
    "rejoin": Rejoin,
    "error": Error,
}
