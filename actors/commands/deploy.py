"""`leeway deploy`: manifests for Kubernetes, which stand in a checkout."""

import runpy
import sys
from pathlib import Path

import typer

from actors.errors import RecipeError


def deploy(context: typer.Context) -> None:
    """Render manifests for Kubernetes, or check them: `python -m deploy`, in a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / "deploy" / "__main__.py").is_file():
        raise RecipeError(
            "the manifests are part of a checkout, not of the installed package: clone the repository and run "
            "`python -m deploy render --overlay NAME RECIPE` in it"
        )
    sys.path.insert(0, str(root))
    sys.argv = ["leeway deploy", *context.args]
    runpy.run_module("deploy", run_name="__main__", alter_sys=False)
