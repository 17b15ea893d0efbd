"""The command line.

Exit codes: 0 done, 1 the run or the machine failed, 2 the input is wrong; 130, 143 and 129 interrupted by Ctrl-C,
SIGTERM, or the closing of the terminal.
"""

import errno
import importlib.metadata
import os
import sys
import tomllib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from actors.commands.chaos import chaos
from actors.commands.chat import chat
from actors.commands.checkout import PASSED_ON, hand_on
from actors.commands.deploy import deploy
from actors.commands.doctor import doctor
from actors.commands.evaluate import evaluate
from actors.commands.export import export
from actors.commands.keys import keys
from actors.commands.options import Overrides
from actors.commands.plan import plan
from actors.commands.replay import replay
from actors.commands.scale import scale
from actors.commands.status import status
from actors.commands.up import up
from actors.errors import ERRORS, RecipeError, exit_code
from sandbox import cli as sandbox_cli
from sandbox.interrupts import INTERRUPTED, Interrupts
from sandbox.terminal import discard, lasting

#: What writing to a stream fails with; errors of files have a name.
_UNWRITABLE = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EIO)
if TYPE_CHECKING:
    from actors.config.recipe import Recipe
    from actors.planning.footprint import Footprint

_ROOT = Path(__file__).resolve().parent.parent

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


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
    context: typer.Context,
    recipe: Annotated[Path | None, typer.Argument(help="Recipe or pipeline to run (YAML).")] = None,
    overrides: Overrides = None,
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="RUN", help="Resume from the newest checkpoint of this folder of a run or of a pipeline, or URI."
        ),
    ] = None,
) -> None:
    """Run a recipe from beginning to end, or resume a run; of a pipeline, whatever is not done yet."""
    if (recipe is None) == (resume is None):
        raise RecipeError("name a recipe, or a run folder with --resume, and not both")
    if find_spec("ray") is None:
        raise RecipeError("training needs Ray, torch and more: install leeway-rl with its extra `cpu` or `cuda`")
    console, changes = lasting(Console()), overrides or ()
    if recipe is not None:
        _begin(recipe, changes, console, context.obj)
    elif resume is not None:
        _resume(resume, changes, console, context.obj)


def _begin(path: Path, overrides: Sequence[str], console: Console, interrupts: Interrupts) -> None:
    from actors.config.loading import load
    from actors.config.pipeline import is_pipeline
    from actors.folder import locked, new_folder
    from actors.run import show, surroundings

    if is_pipeline(path):
        _run_pipeline(path, overrides, console, interrupts)
        return
    tree = load(path, overrides)
    with _about(path):
        found = surroundings(tree)
        folder = new_folder(tree)
        _note(tree)
    with locked(folder) as lock, _resumable(folder):
        show(tree, folder, None, 0, console, found, interrupts, [lock])


def _resume(place: str, overrides: Sequence[str], console: Console, interrupts: Interrupts) -> None:
    from actors.config.loading import RECIPE, load
    from actors.config.pipeline import is_pipeline
    from actors.folder import from_mirror, locked
    from actors.run import go_on, surroundings
    from actors.storage.uris import Uri, is_uri

    folder, notes = from_mirror(Uri(place)) if is_uri(place) else (Path(place).absolute(), [])
    if folder.is_dir() and is_pipeline(folder):
        _run_pipeline(folder, overrides, console, interrupts)
        return
    with locked(folder) as lock, _resumable(folder):
        # before the folder is changed: what is refused here leaves it as it was
        found = surroundings(load(folder / RECIPE, overrides))
        go_on(folder, overrides, console, found, interrupts, [lock], notes)


def _run_pipeline(path: Path, overrides: Sequence[str], console: Console, interrupts: Interrupts) -> None:
    from actors import pipeline

    opened = pipeline.open_pipeline(path, overrides)
    with _resumable(opened.folder):
        pipeline.run(opened, console, interrupts)


@contextmanager
def _resumable(folder: Path) -> Iterator[None]:
    """Say how to go on with a run that is interrupted."""
    from actors.control.supervisor import what_next

    try:
        yield
    except KeyboardInterrupt:
        if folder.is_dir():  # a pipeline may still be making its data
            _say(f"leeway: interrupted; {what_next(folder)}")
        raise


@app.command()
def check(
    recipe: Annotated[Path, typer.Argument(help="Recipe or pipeline to check (YAML).")],
    overrides: Overrides = None,
) -> None:
    """Refuse what is wrong with a recipe or cannot fit into memory, or print its resolved configuration; of a pipeline,
    which of its stages would run. Starts nothing. The memory table goes to standard error."""
    from actors.config.loading import dump, load
    from actors.config.pipeline import is_pipeline
    from actors.folder import require
    from actors.tasks.checks import unchecked

    if is_pipeline(recipe):
        from actors import pipeline

        with _about(recipe):
            plan, recipes = pipeline.check(pipeline.open_pipeline(recipe, overrides or ()))
            found = {}
            for name, each in recipes.items():
                with pipeline.named(name):
                    found[name] = _memory(each)
        largest = max(found, key=lambda name: max((place.total for place in found[name]), default=0.0), default=None)
        if largest is not None:
            _show_memory(found[largest], f"memory of {largest}, the stage that takes most")
        for what in dict.fromkeys(what for each in recipes.values() for what in unchecked(each)):
            _say(f"not checked: {what}", style="dim")
        typer.echo("\n".join(plan))
        return
    tree = load(recipe, overrides or ())
    with _about(recipe):
        require(tree)
        _note(tree)
        _show_memory(_memory(tree))
    for what in unchecked(tree):
        _say(f"not checked: {what}", style="dim")
    typer.echo(dump(tree).encode(), nl=False)  # UTF-8 as recipes are read, whatever the terminal takes


def _memory(recipe: "Recipe") -> "Sequence[Footprint]":
    """The memory table's columns, none where nothing is known. Raises RecipeError where something cannot fit."""
    from actors.commands.memory import recipe_memory, refuse

    try:
        found = recipe_memory(recipe)
    except RecipeError as error:  # e.g. a model on the hub whose sizes nobody has written down here
        _say(f"not checked: memory, since {error}", style="dim")
        return ()
    refuse(found)
    return found


def _show_memory(found: "Sequence[Footprint]", title: str = "memory") -> None:
    from actors.commands.memory import memory_table

    if found:
        lasting(Console(stderr=True)).print(memory_table(found, title))


def _note(recipe: "Recipe") -> None:
    """Say what the model's chat template does that the recipe does not show, and what is open on a cluster."""
    from actors.config.network import exposed
    from actors.tasks.checks import unexpected

    for what in (*unexpected(recipe), *exposed(recipe.network, recipe.ray.address is not None)):
        _say(f"note: {what}", style="dim")


@contextmanager
def _about(recipe: Path) -> Iterator[None]:
    """Begin what is wrong with a recipe by its path."""
    try:
        yield
    except RecipeError as error:
        raise RecipeError(f"{recipe}: {error}") from error


app.command("score")(sandbox_cli.score)
app.command("keys")(keys)
app.command("up")(up)
app.command("replay")(replay)
app.command("status")(status)
app.add_typer(sandbox_cli.app, name="sandbox")
app.command("chaos")(chaos)
app.command("doctor")(doctor)
app.command("plan")(plan)
app.command("export")(export)
app.command("chat")(chat)
app.command("scale")(scale)
app.command("eval")(evaluate)
app.command("deploy", add_help_option=False, context_settings=PASSED_ON)(deploy)


@app.command(add_help_option=False, context_settings=PASSED_ON)
def bench(context: typer.Context) -> None:
    """Run a benchmark: `python -m benchmarks`, in a checkout."""
    hand_on(context, "benchmarks", "benchmarks", "benchmarks", "NAME")


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
    _fill_standard_descriptors()
    with Interrupts() as interrupts:
        code = _outcome(commands, name, interrupts)
    # typer turns an interrupt inside a command into this code
    return interrupts.exit_code if code == INTERRUPTED else code


def _outcome(commands: typer.Typer, name: str, interrupts: Interrupts) -> int:
    try:
        Path.cwd()  # what every path is relative to
        code = commands(standalone_mode=False, prog_name=name, obj=interrupts)
        if sys.stdout is not None:
            sys.stdout.flush()
    except typer.TyperException as error:
        message = error.format_message().replace("Input should", "must")  # the words of the recipe's errors
        return _fail(name, message, 2) if message else 2  # where no command is given, its help is printed
    except ERRORS as error:
        return _fail(name, str(error), exit_code(error))
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except OSError as error:
        return _fail_of_the_system(name, error)
    return code if isinstance(code, int) else 0


def _fail_of_the_system(name: str, error: OSError) -> int:
    """Where standard output cannot be written, or the current directory is gone; raises anything else again."""
    if error.errno in _UNWRITABLE and error.filename is None and sys.stdout is not None:
        discard(sys.stdout)
        if isinstance(error, BrokenPipeError):  # whoever read it has seen enough
            return 1
        return _fail(name, f"standard output cannot be written ({error.strerror})", 1)
    try:
        Path.cwd()
    except OSError:
        return _fail(name, "the current directory is gone, or cannot be read; change to another", 1)
    raise error


def _fill_standard_descriptors() -> None:
    """Open /dev/null where a standard stream is closed: the next file, or a child's, would take its place."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def _fail(name: str, message: str, code: int) -> int:
    _say(f"{name}: {' '.join(message.split())}", style="red")
    return code


def _say(text: str, style: str = "") -> None:
    """One line on standard error, if there is one."""
    lasting(Console(stderr=True)).print(text, style=style, highlight=False, markup=False, emoji=False, soft_wrap=True)


def main() -> None:
    """The command `leeway`."""
    if code := execute(app, "leeway"):
        sys.exit(code)


if __name__ == "__main__":
    main()
