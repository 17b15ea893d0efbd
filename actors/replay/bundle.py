"""Several sets of arrays in one message: the array `name` of the set at position i travels as "i.name"."""

from collections.abc import Mapping

from actors.transport.codec import Array


def bundled(position: int, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """One set under the names that it has in a message."""
    return {f"{position}.{name}": array for name, array in arrays.items()}


def unbundled(arrays: Mapping[str, Array], count: int) -> list[dict[str, Array]]:
    """The sets at the first `count` positions, under their own names; one that the message lacks is empty."""
    own: dict[str, dict[str, Array]] = {str(position): {} for position in range(count)}
    for key, array in arrays.items():
        position, _, name = key.partition(".")
        if position in own:
            own[position][name] = array
    return list(own.values())
