"""Token ids that end a completion."""

import json
from pathlib import Path
from typing import Any


def end_tokens(model: Path, tokenizer: Any) -> list[int]:
    """The tokenizer's end-of-sequence token and those that the model's generation_config.json names."""
    ends = [tokenizer.eos_token_id]
    config = model / "generation_config.json"
    if config.exists():
        named = json.loads(config.read_text()).get("eos_token_id") or []
        ends += named if isinstance(named, list) else [named]
    return sorted({end for end in ends if end is not None})
