"""The pretrained model: out of the package's weights comes a model that knows things."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from actors.config.model import SmolLm2Model
from actors.models import prepare


@pytest.mark.timeout(300)
def test_smollm2_is_converted_and_knows_a_fact(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    folder = prepare(SmolLm2Model(kind="smollm2"), tmp_path, 0)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    talk = [{"role": "user", "content": "What is the capital of France?"}]
    ids = tokenizer.apply_chat_template(talk, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    said = model.generate(**ids, do_sample=False, max_new_tokens=16, pad_token_id=tokenizer.eos_token_id)
    assert "Paris" in tokenizer.decode(said[0, ids["input_ids"].shape[1] :])
