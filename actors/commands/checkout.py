"""Programs that stand in a checkout alone, started by a command of the installed one."""

import runpy
import sys
from pathlib import Path

import typer

from actors.errors import RecipeError

_ROOT = Path(__file__).resolve().parents[2]
#: Of a command that hands everything on to such a program.
PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}


def hand_on(context: typer.Context, package: str, program: str, what: str, usage: str) -> None:
    """Run `python -m package` with the arguments of a command.

    Args:
        context: of the command.
        package: to run.
        program: what it is to call itself.
        what: it has, in the plural.
        usage: arguments to show where this is no checkout.

    Raises:
        RecipeError: this is no checkout.
    """
    if not (_ROOT / package / "__main__.py").is_file():
        raise RecipeError(
            f"{what} are part of a checkout, not of the installed package: clone the repository and run "
            f"`python -m {package} {usage}` in it"
        )
    sys.path.insert(0, str(_ROOT))
    sys.argv = [program, *context.args]
    runpy.run_module(package, run_name="__main__", alter_sys=True)
