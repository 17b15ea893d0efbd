"""The table of notations in docs/sandbox.md, which its tests hold true."""

from docs.generate.markdown import table
from tests.unit.sandbox.mathematics.notations import NOTATIONS


def notations_table() -> str:
    """What `math` takes for the same answer, and what it does not."""
    rows = ([n.kind, _code(n.expected), _all(n.same), _all(n.other)] for n in NOTATIONS)
    return table(["what varies", "expected", "right", "wrong"], rows)


def _all(writings: tuple[str, ...]) -> str:
    return ", ".join(map(_code, writings))


def _code(text: str) -> str:
    """Text as code: a backtick in it asks for two around it."""
    return f"`` {text} ``" if "`" in text else f"`{text}`"
