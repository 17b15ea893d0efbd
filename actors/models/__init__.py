"""Models: every configured model becomes a Hugging Face folder that transformers and vLLM load."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from actors.config.base import Location
from actors.config.model import FolderModel, ModelConfig, SmolLm2Model, TinyModel
from actors.errors import RecipeError
from actors.storage.inputs import local

_HUB_SECONDS = 10.0  # longest wait for the hub's answer; a cached model is used where it does not come


def prepare(config: ModelConfig, folder: Path, seed: int) -> Path:
    """Make the folder of a model under `folder` if it is not there yet.

    A tiny model's folder carries its sizes and the seed in its name, so that one `folder` serves many runs. Processes
    may prepare the same model at the same time.

    Args:
        config: the recipe's `model`.
        folder: the folder of all models that are made here.
        seed: seed of weights made from scratch.

    Returns:
        The model's folder: config.json, weights and tokenizer.

    Raises:
        RecipeError: if there is no such folder, the hub does not give the model, or the package that holds it is not
            installed; the message says what to do.
    """
    match config:
        case FolderModel():
            return _existing(config)
        case TinyModel():
            from actors.models import tiny

            name = f"tiny-{config.hidden_size}x{config.layers}-{config.heads}-{config.intermediate_size}"
            name += f"-{config.max_length}-{tiny.characters()}-seed{seed}"
            return _build(folder / name, lambda target: tiny.write(config, target, seed))
        case SmolLm2Model():
            from actors.models import smollm2

            return _build(
                folder / f"smollm2-135m-instruct-{config.dtype}", lambda target: smollm2.write(config, target)
            )


def located(config: ModelConfig, folder: Path, seed: int) -> Location:
    """As `prepare`, but a URI stays one: each process of a run resolves it on its own machine."""
    return (isinstance(config, FolderModel) and config.uri) or prepare(config, folder, seed)


def _build(target: Path, write: Callable[[Path], None]) -> Path:
    """Write in a folder of another name and rename it: a folder of the final name is always complete."""
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        write(unfinished)
        # mkdtemp's 0700 and safetensors' 0600 would lock out the other users of a shared folder
        unfinished.chmod(0o755)
        for file in unfinished.iterdir():
            file.chmod(0o644)
        try:
            unfinished.rename(target)
        except OSError:
            if not target.is_dir():  # otherwise another process was faster, with the same model
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return target


def _existing(config: FolderModel) -> Path:
    if folder := local(config.uri) if config.uri else config.folder:
        if not (folder / "config.json").is_file():
            raise RecipeError(f"model.path: {config.path} holds no config.json; give a Hugging Face model folder")
        return folder
    if not config.may_be_on_hub:
        raise RecipeError(f"model.path: there is no folder {config.path}; give an existing one, or a name on the hub")
    return _from_hub(config.path)


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(name, etag_timeout=_HUB_SECONDS, ignore_patterns=["*.bin", "*.pth", "*.gguf"]))
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise RecipeError(
            f"model.path: {name} is no folder here and cannot be fetched from the hub ({reason}); check the name, and "
            "that this machine reaches huggingface.co or has the model in its cache"
        ) from error
