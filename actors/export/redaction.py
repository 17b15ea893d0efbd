"""What of a recipe may leave the machine: how the model was trained, and neither secrets nor local paths."""

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit

#: The sections that say how a model came to be. A list of what is kept, so that a section that comes later stays here.
KEPT = (
    "name",
    "seed",
    "steps",
    "model",
    "tasks",
    "rewards",
    "preferences",
    "cold_start",
    "sample",
    "generators",
    "replay",
    "learner",
    "evaluation",
)
LEFT_OUT = "(left out)"
_SECRET = re.compile(r"(token|secret|passw(or)?d|credentials?|api_?key|authorization)$", re.IGNORECASE)


def redacted(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The sections of a recipe that are kept, without what must not be shown.

    Args:
        tree: what `Recipe.model_dump(mode="json")` gives.
    """
    return {key: _value(key, tree[key]) for key in KEPT if tree.get(key) is not None}


def _value(key: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _value(str(name), inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_value(key, inner) for inner in value]
    if not isinstance(value, str):
        return value
    return LEFT_OUT if _SECRET.search(key) and value else without_place(value)


def without_place(text: str) -> str:
    """The last part alone of an absolute path, and a URL without who logs in by it."""
    if "\n" in text:
        return text
    if "://" in text and (found := _split(text)) is not None:
        bare = found._replace(netloc=found.netloc.rpartition("@")[2], query="")
        return bare.geturl() if bare.scheme != "file" else f"…/{PurePath(bare.path).name}"
    if text.startswith(("/", "~")) and len(text) > 1:
        return f"…/{PurePath(text).name}"
    return text


def _split(text: str) -> Any:
    try:
        return urlsplit(text)
    except ValueError:
        return None
