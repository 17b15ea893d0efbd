"""What is refused before vLLM is loaded."""

import pytest

from actors.engines.vllm import _require_extension
from actors.errors import RecipeError
from actors.weights.plugin import WORKER_EXTENSION


def test_a_worker_extension_that_cannot_give_an_update_up_is_refused() -> None:
    _require_extension(WORKER_EXTENSION, WORKER_EXTENSION)
    _require_extension("benchmarks.digest.Digest", WORKER_EXTENSION)
    with pytest.raises(RecipeError, match="OrderedDict must be a subclass of"):
        _require_extension("collections.OrderedDict", WORKER_EXTENSION)
