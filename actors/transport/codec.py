"""Messages between processes: a MessagePack header and raw array frames. Never pickle.

frame 0    {"schema": 1, "kind": str, "id": int, "body": {...}, "arrays": [[name, dtype, shape], ...]}
frame 1..  the arrays in that order, little-endian, C-contiguous
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgpack
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ValidationError

from actors.errors import ProtocolError

SCHEMA = 1
DTYPES: dict[str, np.dtype[Any]] = {name: np.dtype(name) for name in ("<i4", "<f4", "|u1", "<u2")}
#: Enough for a batch of groups with a dozen arrays each; a header that claims more is not ours.
MAX_ARRAYS = 65_536
MAX_DIMENSIONS = 2
#: Most values in a header, where each list and map counts as `CONTAINER_VALUES` more: an empty map is one byte on the
#: wire and a hundred in memory, and takes its time. Twenty thousand events with all their statistics are half of it.
MAX_VALUES = 2**22
CONTAINER_VALUES = 8
#: Longest explanation of what is wrong with a message (characters).
MAX_REFUSAL = 300
#: Arrays from this size on travel from their own memory, and stay in that of the message that they came in (bytes).
ZERO_COPY_BYTES = 65_536

Array = npt.NDArray[Any]
#: Part of a message on the wire.
Frame = bytes | memoryview
Body = TypeVar("Body", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Message:
    """One request, reply or notice. `id` pairs a reply with its request."""

    kind: str
    id: int
    body: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, Array] = field(default_factory=dict)


def encode(message: Message) -> list[Frame]:
    """The frames of a message. Large ones are the memory of its arrays, which must not change any more.

    A lone surrogate, half of an emoji say, is no text that UTF-8 can hold: a question mark travels in its place.

    Raises:
        ProtocolError: for what the wire does not carry: an array of another dtype, an integer over 64 bits, an object.
    """
    specs: list[Any] = []
    frames: list[Frame] = []
    for name, array in message.arrays.items():
        dtype = array.dtype.newbyteorder("<").str
        if dtype not in DTYPES:
            raise ProtocolError(
                f"{message.kind}: array {name} has dtype {array.dtype}; the wire carries {list(DTYPES)}"
            )
        specs.append([name, dtype, list(array.shape)])
        plain = np.ascontiguousarray(array, DTYPES[dtype])
        frames.append(plain.reshape(-1).view(np.uint8).data if plain.nbytes >= ZERO_COPY_BYTES else plain.tobytes())
    header = {"schema": SCHEMA, "kind": message.kind, "id": message.id, "body": message.body, "arrays": specs}
    try:
        return [msgpack.packb(header, unicode_errors="replace"), *frames]
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ProtocolError(f"{message.kind}: its body cannot be written as MessagePack ({error})") from error


def decode(frames: Sequence[Frame], max_bytes: int) -> Message:
    """The message in `frames`; its arrays are read-only views.

    Raises:
        ProtocolError: for anything malformed, and for more than `max_bytes`.
    """
    size = sum(len(f) for f in frames)
    if not frames or size > max_bytes:
        raise ProtocolError(
            f"a message of {size} bytes in {len(frames)} frames; at most {max_bytes} bytes are accepted"
        )
    try:
        header = msgpack.unpackb(
            frames[0],
            strict_map_key=False,
            object_hook=(budget := _Budget()).spend,
            list_hook=budget.spend,
            max_array_len=MAX_VALUES,
            max_map_len=MAX_VALUES,
        )
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError) as error:
        raise _refused(f"the header is not MessagePack: {error}") from error
    if not isinstance(header, dict) or header.get("schema") != SCHEMA:
        raise ProtocolError(f"the header is not of schema {SCHEMA}; are both ends of the same version?")
    kind, number, body, specs = (header.get(key) for key in ("kind", "id", "body", "arrays"))
    if not (isinstance(kind, str) and isinstance(number, int) and isinstance(body, dict) and isinstance(specs, list)):
        raise ProtocolError("the header lacks kind, id, body or arrays")
    if len(specs) != len(frames) - 1 or len(specs) > MAX_ARRAYS:
        raise _refused(f"{kind}: {len(specs)} arrays are announced and {len(frames) - 1} frames follow")
    arrays = dict(_array(kind, spec, frame) for spec, frame in zip(specs, frames[1:], strict=True))
    if len(arrays) != len(specs):
        raise _refused(f"{kind}: two arrays have the same name")
    return Message(kind, number, body, arrays)


def parse(message: Message, kinds: Mapping[str, type[Body]]) -> Body:
    """The body of a message, validated as its kind demands.

    Args:
        message: from `decode`.
        kinds: what the receiver understands.

    Raises:
        ProtocolError: where the kind is unknown or the body does not fit it; the message names the field.
    """
    if message.kind not in kinds:
        raise _refused(f"unknown message {message.kind[:40]!r}")
    try:
        return kinds[message.kind].model_validate(message.body)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise _refused(f"{message.kind}.{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


class _Budget:
    """Counts the values of a header while it is unpacked."""

    def __init__(self) -> None:
        self._left = MAX_VALUES

    def spend(self, container: Any) -> Any:
        self._left -= CONTAINER_VALUES + len(container)
        if self._left < 0:
            raise ValueError(f"more than {MAX_VALUES} values")
        return container


def _refused(why: str) -> ProtocolError:
    """It quotes what a peer chose, and goes into a log and back to the peer: one line, and a short one."""
    short = why if len(why) <= MAX_REFUSAL else f"{why[:MAX_REFUSAL]}..."
    return ProtocolError("".join(c if c.isprintable() else "?" for c in short))


def _array(kind: str, spec: Any, frame: Frame) -> tuple[str, Array]:
    match spec:
        case [str(name), str(dtype), list(shape)] if dtype in DTYPES and len(shape) <= MAX_DIMENSIONS:
            pass
        case _:
            raise _refused(f"{kind}: {str(spec)[:80]} does not describe an array")
    if not all(type(n) is int and 0 <= n < 2**31 for n in shape):
        raise _refused(f"{kind}: array {name} has the shape {shape}")
    if math.prod(shape) * DTYPES[dtype].itemsize != len(frame):
        raise _refused(f"{kind}: array {name} of {shape} {dtype} cannot have {len(frame)} bytes")
    return name, np.frombuffer(frame, DTYPES[dtype]).reshape(shape)
