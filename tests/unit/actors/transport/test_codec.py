"""What travels arrives as it was sent, and nothing else gets in."""

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from pydantic import BaseModel

from actors.errors import ProtocolError
from actors.transport.codec import Message, decode, encode, parse

arrays = st.dictionaries(
    st.text(min_size=1, max_size=8),
    st.sampled_from([np.int32, np.float32, np.uint8]).flatmap(
        lambda dtype: npst.arrays(dtype, npst.array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=5))
    ),
    max_size=4,
)


@given(kind=st.text(max_size=10), number=st.integers(0, 2**40), arrays=arrays)
def test_round_trip(kind: str, number: int, arrays: dict[str, np.ndarray]) -> None:
    message = decode(encode(Message(kind, number, {"a": [1, "b", None]}, arrays)), 2**20)
    assert (message.kind, message.id, message.body) == (kind, number, {"a": [1, "b", None]})
    assert set(message.arrays) == set(arrays)
    for name, array in arrays.items():
        assert message.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(message.arrays[name], array)


def test_half_of_an_emoji_travels_as_a_question_mark() -> None:
    body = {"reference": {"answer": "smile \ud83d"}, "texts": ["\udc00", "whole \U0001f600"]}
    found = decode(encode(Message("k", 1, body)), 2**20).body
    assert found == {"reference": {"answer": "smile ?"}, "texts": ["?", "whole \U0001f600"]}


@pytest.mark.parametrize("value", [2**64, object(), {"a": {1, 2}}, 1j, Message])
def test_what_the_wire_does_not_carry_is_a_typed_error(value: object) -> None:
    with pytest.raises(ProtocolError, match="lease: its body cannot be written as MessagePack"):
        encode(Message("lease", 1, {"value": value}))


@pytest.mark.parametrize("body", [b"\x81\x91\x01\x02", b"\x81\x80\x02"])
def test_a_key_that_is_a_list_or_a_map_is_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError, match="not MessagePack"):
        decode([body], 2**20)


@given(frames=st.lists(st.binary(max_size=60), max_size=4))
def test_noise_is_refused(frames: list[bytes]) -> None:
    with pytest.raises(ProtocolError):
        decode(frames, 2**20)


@given(header=st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**40), 2**40), st.text(max_size=5), st.binary(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=6), inner, max_size=4)),
), frame=st.binary(max_size=16))  # fmt: skip
def test_headers_out_of_form_are_refused(header: object, frame: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode([msgpack.packb({"schema": 1, "kind": "k", "id": 1, "body": {}, "arrays": [header]}), frame, b"x"], 2**20)


@pytest.mark.parametrize(
    "spec",
    [["a", "<i4", [2]], ["a", "<i8", [1]], ["a", "|O", [1]], ["a", "<i4", [-1]], ["a", "<i4", [2**40]],
     ["a", "<i4", [True]], ["a", "<i4", [1, 1, 1]], [1, "<i4", [1]], ["a", "<i4"], None],
)  # fmt: skip
def test_arrays_that_do_not_fit_their_frame_are_refused(spec: object) -> None:
    header = {"schema": 1, "kind": "k", "id": 1, "body": {}, "arrays": [spec]}
    with pytest.raises(ProtocolError):
        decode([msgpack.packb(header), b"\0" * 4], 2**20)


def test_a_message_over_the_limit_is_refused() -> None:
    frames = encode(Message("k", 1, {}, {"a": np.zeros(1000, np.int32)}))
    with pytest.raises(ProtocolError, match="at most 1000"):
        decode(frames, 1000)


def test_objects_cannot_be_sent() -> None:
    with pytest.raises(ProtocolError, match="dtype object"):
        encode(Message("k", 1, {}, {"a": np.array([object()])}))


def test_another_schema_is_named() -> None:
    with pytest.raises(ProtocolError, match="same version"):
        decode([msgpack.packb({"schema": 2})], 100)


@pytest.mark.parametrize("long", ["x" * 100_000, "two\nlines\x1b[2J" * 1000])
def test_a_refusal_quotes_little_and_is_one_line(long: str) -> None:
    class Body(BaseModel, extra="forbid"):
        parts: dict[str, int] = {}

    def header(**changed: object) -> bytes:
        return bytes(msgpack.packb({"schema": 1, "kind": "k", "id": 1, "body": {}, "arrays": []} | changed))

    refused = [
        lambda: parse(Message(long, 1), {}),
        lambda: parse(Message("k", 1, {long: 1}), {"k": Body}),
        lambda: parse(Message("k", 1, {"parts": {long: "x"}}), {"k": Body}),
        lambda: decode([header(kind=long, arrays=[1])], 2**24),
        lambda: decode([header(arrays=[[long, "<i4", [7]]]), b"x"], 2**24),
    ]
    for call in refused:
        with pytest.raises(ProtocolError) as found:
            call()
        assert len(str(found.value)) < 400 and str(found.value).isprintable()


@pytest.mark.parametrize(
    "array",
    [
        np.arange(40_000, dtype=np.int32),
        np.arange(80_000, dtype=np.int32)[::2],
        np.arange(40_000, dtype=np.int32).reshape(200, 200),
        np.arange(40_000, dtype=np.int32).reshape(200, 200).T,
        np.arange(40_000, dtype=">i4"),
    ],
    ids=["plain", "strided", "matrix", "transposed", "big-endian"],
)
def test_a_large_array_travels_from_its_own_memory_and_stays_in_its_message(array: np.ndarray) -> None:
    frames = encode(Message("k", 1, {}, {"a": array}))
    if array.flags.c_contiguous and array.dtype == np.int32:
        assert np.shares_memory(np.frombuffer(frames[1], np.uint8), array)
    found = decode(frames, 2**20).arrays["a"]
    np.testing.assert_array_equal(found, array)
    assert np.shares_memory(found, np.frombuffer(frames[1], np.uint8))


@pytest.mark.parametrize(
    "bomb",
    [
        b"\xdd" + (2**23).to_bytes(4, "big") + b"\x80" * 2**23,
        b"\xdd" + (2**23).to_bytes(4, "big") + b"\xc0" * 2**23,
        b"".join(b"\xdd" + (2**23).to_bytes(4, "big") for _ in range(400)) + b"\xc0" * 2**23,
        b"\xdc\xff\xff" + (b"\xdc\x00\x80" + b"\x90" * 128) * 65535,
    ],
    ids=["maps", "nothings", "claims", "lists"],
)
def test_a_header_that_would_fill_the_memory_is_refused(bomb: bytes) -> None:
    with pytest.raises(ProtocolError, match="not MessagePack"):
        decode([bomb], 2**28)
