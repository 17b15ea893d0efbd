"""A batch on its way from the replay to the learner: encoded and decoded in this one place.

The reply to `take_batch` has a body {"groups": [head, …]} with one `Head` a group, in the order of training, and the
arrays of the group at position i under the names "i.tokens", "i.logprobs" and so on, see `Payload`.
"""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import Field, FiniteFloat, TypeAdapter, ValidationError

from actors.config.base import Section
from actors.errors import ProtocolError
from actors.replay.bundle import bundled, unbundled
from actors.replay.payload import Payload
from actors.transport.codec import Array
from learner.batch import Completion, Group, RoutedExperts

T = TypeVar("T")


class Head(Section):
    """What travels of a group beside its payload; `rewards` and `parts` have one entry a completion."""

    group_id: int = Field(ge=0)
    source: str = Field(description="label of the task source")
    rewards: list[FiniteFloat]
    parts: list[dict[str, FiniteFloat]]


_HEADS = TypeAdapter(list[Head])


def encode_batch(groups: Iterable[tuple[Head, Payload]]) -> tuple[dict[str, Any], dict[str, Array]]:
    """Body and arrays of the reply that delivers `groups`."""
    heads: list[dict[str, Any]] = []
    arrays: dict[str, Array] = {}
    for position, (head, payload) in enumerate(groups):
        heads.append(head.model_dump())
        arrays |= bundled(position, payload.arrays())
    return {"groups": heads}, arrays


def decode_batch(body: Mapping[str, Any], arrays: Mapping[str, Array], group_size: int) -> list[Group]:
    """The groups of a delivered batch, in order; their arrays are views of `arrays`.

    Raises:
        ProtocolError: if a group is out of form, or has not `group_size` completions.
    """
    heads = delivered_as(_HEADS, body)
    own = unbundled(arrays, len(heads))
    return [group_of(head, Payload.of(mine, group_size)) for head, mine in zip(heads, own, strict=True)]


def delivered_as(form: TypeAdapter[list[T]], body: Mapping[str, Any]) -> list[T]:
    """What stands of each group in the body of a delivered batch. Raises ProtocolError where it is out of form."""
    try:
        return form.validate_python(body.get("groups"))
    except ValidationError as error:
        raise ProtocolError(f"a delivered batch is out of form: {error.errors(include_url=False)[0]['msg']}") from error


def group_of(head: Head, payload: Payload) -> Group:
    """What the learner knows of a group. Raises ProtocolError unless `head` has a reward for each completion."""
    return Group(payload.prompt, tuple(completions_of(head, payload)), head.group_id, experts_of_prompt(payload))


def experts_of_prompt(payload: Payload) -> RoutedExperts | None:
    """Where the engine sent the tokens of the prompt; see `learner.batch.Group`."""
    routed = payload.experts_by_token()
    return None if routed is None else routed[: len(payload.prompt)]


def completions_of(head: Head, payload: Payload) -> list[Completion]:
    """What the learner knows of the completions of a payload.

    Raises:
        ProtocolError: unless `head` has a reward for each.
    """
    if not len(head.rewards) == len(head.parts) == len(payload.lengths):
        raise ProtocolError(
            f"group {head.group_id}: {len(head.rewards)} rewards for {len(payload.lengths)} completions"
        )
    ends = payload.lengths.cumsum()
    versions = payload.token_versions()
    routed = payload.experts_by_token()
    completions = []
    for i, (end, length) in enumerate(zip(ends, payload.lengths, strict=True)):
        part = slice(end - length, end)
        read = len(payload.prompt) + end - length - i
        completions.append(
            Completion(
                tokens=payload.tokens[part],
                logprobs=payload.logprobs[part],
                versions=versions[part],
                reward=head.rewards[i],
                truncated=bool(payload.truncated[i]),
                parts=head.parts[i],
                loss_mask=None if payload.loss_mask is None else payload.loss_mask[part],
                teacher_logprobs=None if payload.teacher_logprobs is None else payload.teacher_logprobs[part],
                routed_experts=None if routed is None else routed[read : read + length - 1],
            )
        )
    return completions
