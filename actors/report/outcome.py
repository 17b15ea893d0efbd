"""What a terminal shows when a run has ended."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from actors.report.health import HealthWarning
from actors.report.summary import Accuracy, RunSummary
from actors.report.units import NONE, duration, number, percent, plural, size

BAR = 30


def final(summary: RunSummary, folder: Path, found: Sequence[HealthWarning] = ()) -> RenderableType:
    """The outcome of a run as a newcomer reads it, and where to find the rest; `found` are its warnings."""
    rates, sync, groups = summary.tokens_per_second, summary.weight_sync, summary.groups
    dropped = ", ".join(f"{count} {reason}" for reason, count in groups.dropped.items() if count) or "none"
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="dim")
    table.add_column()
    table.add_row("held-out accuracy", _accuracies(summary.held_out.before, summary.held_out.after))
    if (model := summary.reward_model).n is not None:
        pairs = plural(model.n, "held-out pair")
        table.add_row("reward model", f"{percent(model.accuracy, 1)} of {pairs} in the right order")
    table.add_row("wall time", f"{duration(summary.wall_seconds)} for {plural(summary.steps, 'step')}")
    table.add_row(
        "tokens", f"{number(summary.tokens.generated)} generated, {number(summary.tokens.trained)} trained on"
    )
    table.add_row("tokens/s", f"{number(rates.generation)} generated, {number(rates.learning)} trained on")
    table.add_row(
        "busy", ", ".join(f"{role} {percent(share)}" for role, share in summary.busy_share.model_dump().items())
    )
    table.add_row(
        "new weights",
        f"{size(sync.bytes)} in {duration(sync.transfer_seconds)}, generation paused {duration(sync.pause_seconds)}",
    )
    table.add_row(
        "groups", f"{groups.issued} issued, {groups.trained + groups.committed} trained on; dropped: {dropped}"
    )
    if summary.restarts:
        table.add_row("restarts", str(summary.restarts))
    table.add_row("staleness", _histogram(summary))
    for label, name in (("report", "report.html"), ("summary", "summary.json"), ("metrics", "metrics.jsonl")):
        table.add_row(label, Text(str(folder / name), overflow="fold"))
    table.add_row("rollouts", Text(str(folder / "samples.jsonl"), overflow="fold"))
    alerts = [Text(f"! {warning.text} {warning.fix}", "yellow") for warning in found]
    return Group(Text(), Text(f"{summary.recipe}, seed {summary.seed}", "bold"), table, *alerts)


def _accuracies(before: Accuracy, after: Accuracy) -> Text:
    n = after.n or before.n
    line = Text(f"{percent(before.pass_at_1, 1)} -> {percent(after.pass_at_1, 1)}", "bold")
    line.append(f"  pass@1 of {n or NONE} tasks", "not bold")
    if before.maj_at_k is not None or after.maj_at_k is not None:
        line.append(
            f"\n{percent(before.maj_at_k, 1)} -> {percent(after.maj_at_k, 1)}  majority of the samples", "not bold"
        )
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
