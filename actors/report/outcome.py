"""What a terminal shows when a run has ended."""

from collections.abc import Sequence
from io import StringIO
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from actors.membership import OPTIONAL_ROLES
from actors.report.health import HealthWarning
from actors.report.scores import table
from actors.report.summary import Accuracy, RunSummary
from actors.report.text import visible
from actors.report.units import NONE, duration, number, percent, plural, size
from actors.report.writer import RunFolder
from sandbox.terminal import lasting

BAR = 30  # columns of a whole share in the histogram
SCORES = 160  # columns of a table of scores, which is not cut
LABEL = 17  # columns: the longest label
FILES = (
    ("report", RunFolder.REPORT),
    ("summary", RunFolder.SUMMARY),
    ("metrics", RunFolder.METRICS),
    ("rollouts", RunFolder.SAMPLES),
)


def print_outcome(console: Console, summary: RunSummary, folder: Path, warnings: Sequence[HealthWarning] = ()) -> None:
    """Print the outcome of a run as a newcomer reads it, and where to find the rest.

    It fits 80 columns. A name or path that is longer is left to the terminal to wrap, so that it can be copied whole.
    Where the console is no terminal, a warning is one line, too.

    Args:
        folder: the run folder, as its paths are to be shown.
        warnings: what `actors.report.health` says of the run.
    """
    lasting(console)
    console.print()
    console.print(Text(visible(f"{summary.recipe}, seed {summary.seed}"), "bold"), soft_wrap=True)
    _print_without_trailing_spaces(console, _table(summary))
    _print_scores(console, summary)
    for label, name in FILES:
        line = Text.assemble((f"{label:<{LABEL}}", "dim"), "  ", visible(str(folder / name)))
        console.print(line, soft_wrap=True)
    for warning in warnings:
        console.print(Text(f"! {warning.text} {warning.fix}", "yellow"), soft_wrap=not console.is_terminal)


def _print_scores(console: Console, summary: RunSummary) -> None:
    """The table of an evaluation, where the run is nothing else, or has several task sources."""
    sampled = summary.sampling.evaluation
    done = sampled if sampled.n is not None else summary.held_out.after
    if done.n is None or (summary.steps and len(done.by_source) < 2):
        return
    wide = Console(file=StringIO(), width=SCORES)
    with wide.capture() as captured:
        wide.print(table(done, summary.held_out.before if done is summary.held_out.after else None))
    lines = [line.rstrip() for line in captured.get().splitlines()]
    console.print(Text("\n".join(["", *lines, ""])), soft_wrap=True)


def _print_without_trailing_spaces(console: Console, table: Table) -> None:
    """Print a table; rich pads its cells, which a log or a diff would keep."""
    if console.is_terminal:
        console.print(table)
        return
    with console.capture() as captured:
        console.print(table)
    lines = captured.get().splitlines()
    console.print(Text("\n".join(line.rstrip() for line in lines)), soft_wrap=True)


def _table(summary: RunSummary) -> Table:
    rates, sync, groups = summary.tokens_per_second, summary.weight_sync, summary.groups
    dropped = ", ".join(f"{count} {reason}" for reason, count in groups.dropped.items() if count) or "none"
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="dim", width=LABEL)
    table.add_column()
    sampling = summary.sampling
    if sampling.evaluation.n is None:
        table.add_row("held-out accuracy", _accuracies(summary.held_out.before, summary.held_out.after))
    else:
        table.add_row("accuracy", _accuracies(Accuracy(), sampling.evaluation))
    if sampling.kept is not None:
        reasons = ", ".join(f"{n} {reason}" for reason, n in sorted(sampling.dropped.items())) or "none"
        mixed = f", {sampling.mixed} mixed in" if sampling.mixed else ""
        table.add_row(
            "curated", f"{sampling.kept} of {plural(sampling.sampled or 0, 'completion')}{mixed}; dropped: {reasons}"
        )
    if (model := summary.reward_model).n is not None:
        pairs = plural(model.n, "held-out pair")
        table.add_row("reward model", f"{percent(model.accuracy, 1)} of {pairs} in the right order")
    table.add_row("wall time", f"{duration(summary.wall_seconds)} for {plural(summary.steps, 'step')}")
    table.add_row(
        "tokens", f"{number(summary.tokens.generated)} generated, {number(summary.tokens.trained)} trained on"
    )
    table.add_row("tokens/s", f"{number(rates.generation)} generated, {number(rates.learning)} trained on")
    shares = summary.busy_share.model_dump().items()
    shown = [(role, share) for role, share in shares if share is not None or role not in OPTIONAL_ROLES]
    table.add_row("busy", ", ".join(f"{role} {percent(share)}" for role, share in shown))
    table.add_row(
        "new weights",
        f"{size(sync.bytes)} in {duration(sync.transfer_seconds)}, generation paused {duration(sync.pause_seconds)}",
    )
    table.add_row(
        "groups", f"{groups.issued} issued, {groups.trained + groups.committed} trained on; dropped: {dropped}"
    )
    if summary.restarts:
        table.add_row("restarts", str(summary.restarts))
    for found in summary.recoveries:
        label = f"{found.role} {found.fault}"
        times = f"{found.count}, recovered after {duration(found.median_seconds)}"
        longest = f" (median; longest {duration(found.max_seconds)})" if found.count > 1 else ""
        table.add_row(label, times + longest)
    table.add_row("staleness", _histogram(summary))
    return table


def _accuracies(before: Accuracy, after: Accuracy) -> Text:
    n, k = after.n or before.n, after.k or before.k or 0
    alone = before.n is None and after.n is not None  # a run without a step

    def measured(name: str) -> str:
        first, last = getattr(before, name), getattr(after, name)
        interval = getattr(after, f"{name}_interval")
        shown = f" [{percent(interval[0])}, {percent(interval[1])}]" if interval else ""
        return f"{percent(last, 1)}{shown}" if alone else f"{percent(first, 1)} -> {percent(last, 1)}{shown}"

    line = Text(measured("pass_at_1"), "bold")
    line.append(f"  pass@1 of {n or NONE} tasks", "not bold")
    if k > 1 and (before.pass_at_k is not None or after.pass_at_k is not None):
        line.append(f"\n{measured('pass_at_k')}  pass@{k}", "not bold")
    if before.maj_at_k is not None or after.maj_at_k is not None:
        line.append(f"\n{measured('maj_at_k')}  maj@{k or 'k'}", "not bold")
    for name, found in (("before", before), ("after", after)):
        for reason, tasks in found.left_out.items():
            line.append(f"\n{name}: {plural(tasks, 'task')} left out ({visible(reason)})", "not bold")
        if found.missing is not None:
            line.append(f"\n{name}: no result: {visible(found.missing)}", "not bold")
    return line


def _histogram(summary: RunSummary) -> RenderableType:
    stale, total = summary.staleness, summary.tokens.trained
    if not total:
        return Text(NONE)
    lines = [Text("versions behind the learner, share of the trained tokens", "dim")]
    for age, count in stale.histogram.items():
        share = count / total
        lines.append(Text(f"{age:>3} {'█' * max(1, round(share * BAR))} {percent(share, 1)}"))
    return Group(*lines)
