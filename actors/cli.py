"""The command line. Exit codes: 0 done, 1 the run failed, 2 the input is wrong, 130 interrupted."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from actors.errors import LeewayError, RecipeError
from sandbox import cli as sandbox_cli

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(sandbox_cli.app, name="sandbox")
app.command("score")(sandbox_cli.score)
console = Console()
complaints = Console(stderr=True)

Overrides = Annotated[list[str] | None, typer.Option("-s", "--set", help="override a key, such as learner.threads=2")]


@app.command()
def run(
    recipe: Annotated[Path | None, typer.Argument(help="recipe to run (YAML)")] = None,
    overrides: Overrides = None,
    resume: Annotated[Path | None, typer.Option(help="go on from the newest checkpoint of this run folder")] = None,
) -> None:
    """Run a recipe from beginning to end, or go on with a run."""
    from actors import run as runs
    from actors.config.loading import load

    if (recipe is None) == (resume is None):
        raise RecipeError("name a recipe, or a run folder with --resume, and not both")
    if resume is not None:
        folder = resume.absolute()
        tree, checkpoint, step = runs.reopen(folder, overrides or ())
    else:
        assert recipe is not None
        tree, checkpoint, step = load(recipe, overrides or ()), None, 0
        folder = runs.new_folder(tree)
    runs.show(tree, folder, checkpoint, step, console)


@app.command()
def check(
    recipe: Annotated[Path, typer.Argument(help="recipe to check (YAML)")],
    overrides: Overrides = None,
) -> None:
    """Print the resolved configuration of a recipe; start nothing."""
    from actors.config.loading import dump, load

    console.print(dump(load(recipe, overrides or ())), highlight=False, markup=False, soft_wrap=True, end="")


bench = typer.Typer(no_args_is_help=True, help="Measure Leeway against its peers, in one run on this machine.")
app.add_typer(bench, name="bench")
Json = Annotated[Path | None, typer.Option("--json", help="also write the figures to this file")]


@bench.command("learner")
def bench_learner(
    json: Json = None, parity: Annotated[bool, typer.Option(help="compare the losses of the objectives")] = False
) -> None:
    """The training step beside TRL's."""
    from benchmarks import learner

    learner.run(json, parity=parity)


@bench.command("sandbox")
def bench_sandbox(json: Json = None) -> None:
    """Executions a second and core, beside a plain interpreter and bubblewrap."""
    from benchmarks import sandbox

    sandbox.run(json)


@bench.command("soak")
def bench_soak(
    json: Json = None,
    programs: Annotated[int, typer.Option(min=1, help="how many programs")] = 10_000,
    seed: Annotated[int, typer.Option(help="which programs, and which processes are killed")] = 0,
) -> None:
    """Mixed and hostile programs through the verifier pool while its processes are killed at random."""
    from benchmarks import sandbox_soak

    sandbox_soak.run(json, programs, seed)


@bench.command("human-eval")
def bench_human_eval(json: Json = None) -> None:
    """The canonical solutions of HumanEval and a mutant of each, three times through the verifier pool."""
    from benchmarks import human_eval

    human_eval.run(json)


@bench.command("math")
def bench_math(
    json: Json = None, write: Annotated[bool, typer.Option("--write", help="renew benchmarks/MATH.md")] = False
) -> None:
    """The labelled pairs of answers, which of them math-verify alone gets wrong, and the slowest checks."""
    from benchmarks import mathematics

    mathematics.run(json, write=write)


@bench.command("learning")
def bench_learning(json: Json = None) -> None:
    """Each objective on a bandit-like task, fresh and stale."""
    from benchmarks import learner_check

    learner_check.run(json)


@bench.command("logprobs")
def bench_logprobs(
    json: Json = None, trained: Annotated[Path | None, typer.Option(help="a trained tiny model's folder")] = None
) -> None:
    """How far engine and learner disagree about the same weights."""
    from benchmarks import logprobs

    logprobs.run(json, trained)


def main() -> None:
    """Run the command line and translate errors into exit codes."""
    try:
        code = app(standalone_mode=False)
    except (RecipeError, typer.TyperException) as error:
        complaints.print(f"leeway: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        sys.exit(2)
    except LeewayError as error:
        complaints.print(f"leeway: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        sys.exit(1)
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    # typer turns an interrupt inside a command into this code
    if code == 130 and sys.argv[1:2] == ["run"]:
        complaints.print("leeway: interrupted; go on with `leeway run --resume FOLDER`", highlight=False, markup=False)
    if isinstance(code, int):
        sys.exit(code)


if __name__ == "__main__":
    main()
