"""How many parameters a configured model has, before it is made or loaded, and without torch."""

import json
import math
from pathlib import Path

from actors.config.model import FolderModel, ModelConfig
from actors.errors import RecipeError
from actors.planning.architectures import architecture

_MAX_HEADER_BYTES = 100 * 10**6  # what safetensors itself accepts


def parameter_count(config: ModelConfig) -> int | None:
    """Tied weights count once, as files hold them. None: the model is on the hub, or its weights are in other files.

    Raises:
        RecipeError: a file of weights cannot be read.
    """
    if not isinstance(config, FolderModel):
        return architecture(config).parameters
    files = sorted(config.folder.glob("*.safetensors")) if config.folder else []
    return sum(map(_in_file, files)) or None


def _in_file(path: Path) -> int:
    """Elements of all tensors in a safetensors file: eight bytes that say how long the JSON behind them is."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if size > _MAX_HEADER_BYTES:
                raise ValueError(f"its header claims {size} bytes")
            header: dict[str, dict[str, list[int]]] = json.loads(file.read(size))
        return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
    except (OSError, ValueError, KeyError) as error:
        raise RecipeError(f"model.path: {path} is no readable file of safetensors ({error})") from error
