"""Plain values, and trees that are nearly encodings of them, for property tests."""

from __future__ import annotations

from hypothesis import strategies as st

HASHABLE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)

VALUES = st.recursive(
    HASHABLE,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(HASHABLE, inner, max_size=4) | st.sets(HASHABLE, max_size=4)
    ),
    max_leaves=10,
)

TREES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=6)
    | st.sampled_from(["i", "f", "b", "c", "d", "s", "0x1"]),
    lambda inner: st.lists(inner, max_size=5),
    max_leaves=20,
)
