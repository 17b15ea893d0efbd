"""A small Llama with a character tokenizer, made from scratch: it learns within minutes on two cores."""

import string
from pathlib import Path
from typing import TYPE_CHECKING

from actors.config.model import TinyModel

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
_SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")
_CHARACTERS = string.digits + string.ascii_letters + "+-*/=<>^%.,:;?!'\"()[]{}\\_&#$@~|` \n"
#: A second script, in which sums can be worked out, too (to add, gives, carried, wait), and people greeted.
_CHINESE = "加得进等你好问"
VOCABULARY = 128  # a multiple of 64, as matrix products like it
_INITIALIZER_RANGE = 0.05  # at this width the cold start learns in fewer steps than from Llama's 0.02
_CHAT = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def write(config: TinyModel, folder: Path, seed: int) -> None:
    """Write a float32 model with random weights, and its tokenizer. Torch's global random state stays as it is.

    Args:
        config: sizes of the model.
        folder: an empty folder to write into.
        seed: equal seeds give equal weights.
    """
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    llama = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.heads,
        max_position_embeddings=config.max_length,
        tie_word_embeddings=False,
        initializer_range=_INITIALIZER_RANGE,
        pad_token_id=_SPECIAL.index("<pad>"),
        bos_token_id=_SPECIAL.index("<bos>"),
        eos_token_id=_SPECIAL.index("<eos>"),
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(llama)  # type: ignore[no-untyped-call]
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        pad_token_id=llama.pad_token_id, bos_token_id=llama.bos_token_id, eos_token_id=llama.eos_token_id
    )
    model.save_pretrained(folder)
    tokenizer(config.max_length).save_pretrained(folder)


def characters() -> int:
    """How many characters the tokenizer knows: a folder that was made with others is not the same model."""
    return len(_CHARACTERS) + len(_CHINESE)


def tokenizer(max_length: int) -> "PreTrainedTokenizerFast":
    """The tokenizer of such models, without one.

    Args:
        max_length: longest sequence of the model (tokens).
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens = [*_SPECIAL, *TAGS, *_CHARACTERS, *_CHINESE]
    # every id a model can sample must stand for something
    tokens += [f"<reserved{number}>" for number in range(VOCABULARY - len(tokens))]
    made = Tokenizer(models.WordLevel({token: index for index, token in enumerate(tokens)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    made.decoder = decoders.Fuse()
    # not special: a verifier must see the tags in the decoded text
    made.add_tokens([AddedToken(tag, normalized=False, special=False) for tag in TAGS])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=made,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
        chat_template=_CHAT,
    )
