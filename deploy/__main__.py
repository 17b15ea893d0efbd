"""`leeway deploy`: render the manifests for a recipe, and check them without a cluster."""

import sys
from pathlib import Path
from typing import Annotated

import typer
import yaml

from actors.commands.options import Overrides
from actors.config.loading import load
from actors.errors import RecipeError, RunError
from deploy import check as ladder
from deploy.render import OVERRIDES, documents, measuring, rendered

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@app.command()
def render(
    recipe: Annotated[Path, typer.Argument(help="Recipe that the fleet shall run (YAML).")],
    overlay: Annotated[str, typer.Option(help="A folder of deploy/overlays.")],
    preflight: Annotated[bool, typer.Option(help="A Job that measures the network, in the place of the run.")] = False,
    overrides: Overrides = None,
) -> None:
    """Print the manifests of an overlay, with sizes, counts and resources from the recipe."""
    tree = load(recipe, (*OVERRIDES, *(overrides or ())))
    found = rendered(overlay, tree)
    if preflight:
        found = measuring(found, tree)
    typer.echo(yaml.safe_dump_all(found, sort_keys=False, width=120), nl=False)


@app.command()
def check(file: Annotated[str, typer.Argument(help="Manifests (YAML); - is standard input.")] = "-") -> None:
    """Say what a cluster with KubeRay 1.7 would refuse of manifests. Needs no cluster."""
    try:
        found = documents(sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f"{file}: cannot be read as YAML ({str(error).splitlines()[0]})") from error
    wrong = list(ladder.faults(found))
    for fault in wrong:
        typer.echo(fault, err=True)
    if wrong:
        raise RunError(f"{len(wrong)} faults in {len(found)} objects")
    typer.echo(f"{len(found)} objects, no fault")


if __name__ == "__main__":
    from actors.cli import execute

    sys.exit(execute(app, "leeway deploy"))
