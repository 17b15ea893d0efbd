"""`leeway export`: the model of a run as a Hugging Face folder with a card."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from sandbox.terminal import lasting

if TYPE_CHECKING:
    from actors.config.recipe import Recipe


def export(
    run: Annotated[Path, typer.Argument(help="Run folder, or the folder of a pipeline.")],
    folder: Annotated[Path | None, typer.Argument(help="New folder; by default export/ in the run folder.")] = None,
    stage: Annotated[str | None, typer.Option(help="Stage of a pipeline; default: the last one.")] = None,
    checkpoint: Annotated[
        str | None, typer.Option(metavar="step-NUMBER", help="A checkpoint, in place of the end of the run.")
    ] = None,
) -> None:
    """Write the trained model into a folder that transformers and `vllm serve` load, with a model card.

    Copied weights are compared by hash. Neither secrets nor paths of this machine are in the card.
    """
    from actors.export.export import export as export_
    from actors.export.export import run_of

    found = run_of(run, stage)
    target = folder or found / "export"
    files = export_(found, target, checkpoint, _write)
    console = lasting(Console())
    console.print(f"{len(files)} files and a model card in {target}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"serve it: vllm serve {target}; talk to it: leeway chat {target}", style="dim", soft_wrap=True)


def _write(recipe: "Recipe", checkpoint: Path, folder: Path) -> None:
    """Write the model of a checkpoint, in one process on the CPU whatever it was trained on."""
    from actors.control.environment import models_folder
    from actors.models import prepare
    from learner import Trainer

    model = prepare(recipe.model, models_folder(Path.cwd(), recipe.output), recipe.seed)
    alone = recipe.learner.model_copy(update={"ranks": 1, "device": "cpu", "gpus": 0.0})
    trainer = Trainer(alone, model, recipe.seed)
    trainer.load(checkpoint)
    trainer.export(folder)
