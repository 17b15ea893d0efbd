"""`leeway deploy`: manifests for Kubernetes, which stand in a checkout."""

import typer

from actors.commands.checkout import hand_on


def deploy(context: typer.Context) -> None:
    """Render manifests for Kubernetes, or check them: `python -m deploy`, in a checkout."""
    hand_on(context, "deploy", "leeway deploy", "the manifests", "render --overlay NAME RECIPE")
