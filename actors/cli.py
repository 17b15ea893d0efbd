"""The command line. Exit codes: 0 done, 1 the run or the machine failed, 2 the input is wrong, 130 interrupted."""

import importlib.metadata
import os
import runpy
import sys
import tomllib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from actors.errors import ERRORS, RecipeError, exit_code
from sandbox import cli as sandbox_cli

if TYPE_CHECKING:
    from actors.config.recipe import Recipe

INTERRUPTED = 130
_ROOT = Path(__file__).resolve().parent.parent

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
console = Console()
stderr = Console(stderr=True)

Overrides = Annotated[
    list[str] | None,
    typer.Option("-s", "--set", metavar="KEY=VALUE", help="Override a key, as in learner.threads=2; may be repeated."),
]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"leeway {version()}")
        raise typer.Exit


@app.callback()
def leeway(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Asynchronous reinforcement learning of reasoning models."""


@app.command()
def run(
    recipe: Annotated[Path | None, typer.Argument(help="Recipe to run (YAML).")] = None,
    overrides: Overrides = None,
    resume: Annotated[Path | None, typer.Option(help="Resume from the newest checkpoint of this run folder.")] = None,
) -> None:
    """Run a recipe from beginning to end, or resume a run."""
    from actors import run as runs
    from actors.config.loading import load

    if (recipe is None) == (resume is None):
        raise RecipeError("name a recipe, or a run folder with --resume, and not both")
    if find_spec("ray") is None:
        raise RecipeError("training needs Ray, torch and more: install leeway-rl with its extra `cpu` or `cuda`")
    if resume is not None:
        folder = resume.absolute()
        tree, checkpoint, step = runs.reopen(folder, overrides or ())
    else:
        assert recipe is not None
        tree, checkpoint, step = load(recipe, overrides or ()), None, 0
        with _about(recipe):
            folder = runs.new_folder(tree)
            _note(tree)
    runs.show(tree, folder, checkpoint, step, console)


@app.command()
def check(
    recipe: Annotated[Path, typer.Argument(help="Recipe to check (YAML).")],
    overrides: Overrides = None,
) -> None:
    """Refuse what is wrong with a recipe, or print its resolved configuration. Starts nothing."""
    from actors import run as runs
    from actors.config.loading import dump, load
    from actors.tasks.checks import unchecked

    tree = load(recipe, overrides or ())
    with _about(recipe):
        runs.require(tree)
        _note(tree)
    for what in unchecked(tree):
        stderr.print(f"not checked: {what}", style="dim", soft_wrap=True)
    typer.echo(dump(tree), nl=False)


def _note(recipe: "Recipe") -> None:
    """Say what the model's chat template does that the recipe does not show."""
    from actors.tasks.checks import unexpected

    for what in unexpected(recipe):
        stderr.print(f"note: {what}", style="dim", highlight=False, markup=False, soft_wrap=True)


@contextmanager
def _about(recipe: Path) -> Iterator[None]:
    """Begin what is wrong with a recipe by its path."""
    try:
        yield
    except RecipeError as error:
        raise RecipeError(f"{recipe}: {error}") from error


app.command("score")(sandbox_cli.score)
app.add_typer(sandbox_cli.app, name="sandbox")


@app.command(add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def bench(context: typer.Context) -> None:
    """Run a benchmark: `python -m benchmarks`, in a checkout."""
    if not (_ROOT / "benchmarks" / "__main__.py").is_file():
        raise RecipeError(
            "benchmarks are part of a checkout, not of the installed package: clone the repository and run "
            "`python -m benchmarks NAME` in it"
        )
    sys.path.insert(0, str(_ROOT))
    sys.argv = ["benchmarks", *context.args]
    runpy.run_module("benchmarks", run_name="__main__", alter_sys=True)


def version() -> str:
    """The version of the installed package, or of the checkout that this file stands in."""
    try:
        return importlib.metadata.version("leeway-rl")
    except importlib.metadata.PackageNotFoundError:
        with (_ROOT / "pyproject.toml").open("rb") as file:
            return str(tomllib.load(file)["project"]["version"])


def execute(commands: typer.Typer, name: str) -> int:
    """Run a command line on `sys.argv`.

    Returns:
        The exit code. Errors of ours and wrong usage are one line on standard error; anything else is a defect, and
        its traceback is shown.
    """
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # those of third parties: ours go to the log
    try:
        code = commands(standalone_mode=False, prog_name=name)
        sys.stdout.flush()
    except typer.TyperException as error:
        message = error.format_message().replace("Input should", "must")  # the words of the recipe's errors
        return _fail(name, message, 2) if message else 2  # where no command is given, its help is printed
    except ERRORS as error:
        return _fail(name, str(error), exit_code(error))
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        # whoever read standard output has seen enough; nothing more can be written, not even at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code if isinstance(code, int) else 0


def _fail(name: str, message: str, code: int) -> int:
    stderr.print(f"{name}: {' '.join(message.split())}", style="red", highlight=False, markup=False, soft_wrap=True)
    return code


def main() -> None:
    """The command `leeway`."""
    code = execute(app, "leeway")
    # typer turns an interrupt inside a command into this code
    if code == INTERRUPTED and sys.argv[1:2] == ["run"]:
        stderr.print("leeway: interrupted; resume with `leeway run --resume FOLDER`", highlight=False, markup=False)
    if code:
        sys.exit(code)


if __name__ == "__main__":
    main()
