"""What a terminal shows of a run: a live page on a screen, one line an event everywhere else."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from actors.events import (
    EVENT,
    SAMPLE,
    CurationDone,
    EvaluationDone,
    EvaluationMissing,
    Event,
    FirstSeen,
    Phase,
    Recovered,
    Restart,
    RewardModelDone,
    StepDone,
    Tick,
    Unresponsive,
    WriteFailed,
)
from actors.membership import OPTIONAL_ROLES
from actors.report import statistics as names
from actors.report.health import warnings
from actors.report.series import Series
from actors.report.state import RunState
from actors.report.text import visible
from actors.report.units import NONE, duration, number, percent, plural
from sandbox.terminal import lasting

WIDTH = 78  # fits a terminal of 80 columns
AGES = 6  # rows of the staleness histogram; the last one holds all older tokens
SHOWN_WARNINGS = 3  # with them the page has 24 lines
BLOCKS = " ▏▎▍▌▋▊▉█"
SPARKS = "▁▂▃▄▅▆▇█"
FAULTS = {"died": "died", "hung": "hung", "silent": "fell silent", "stuck": "got stuck"}
ROLES = {"generator": "blue", "verifier": "green", "scorer": "cyan", "learner": "yellow"}


class Display:
    """Shows a run on `console`: call it with each event, in order; it folds them into `state` itself.

    On a terminal it redraws one page; elsewhere (a file, a CI log, TERM=dumb, a terminal that is too narrow for the
    page) it prints one plain line for each step, evaluation, phase, restart and new warning. It starts no thread: a
    page is as fresh as the last tick. Where the console cannot be written to any more it shows nothing.

    Args:
        state: the state of the run so far.
        console: where to show it; default: standard output.
    """

    def __init__(self, state: RunState, console: Console | None = None) -> None:
        self.state = state
        self._console = shown = lasting(console or Console())
        self._warned: set[str] = set()
        fits = shown.is_terminal and not shown.is_dumb_terminal and shown.width >= WIDTH
        self._live = Live(console=shown, auto_refresh=False, transient=True) if fits else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def __call__(self, event: Event | Mapping[str, Any]) -> None:
        """Show the state after an event.

        Args:
            event: the event, or its JSON form.

        Raises:
            pydantic.ValidationError: if a JSON form is none of an event.
        """
        known = EVENT.validate_python(event) if isinstance(event, Mapping) else event
        self.state.fold(known)
        if self._live:
            self._live.update(page(self.state), refresh=isinstance(known, Tick | Phase | EvaluationDone | Unresponsive))
            return
        for line in self._lines(known):
            self._console.print(Text(line), soft_wrap=True)

    def _lines(self, event: Event) -> Iterable[str]:
        line = plain(self.state, event)
        if line:
            yield line
        if isinstance(event, StepDone | EvaluationDone | RewardModelDone | Tick | Unresponsive | WriteFailed):
            found = warnings(self.state)
            yield from (f"warning: {new.text} {new.fix}" for new in found if new.symptom not in self._warned)
            self._warned = {warning.symptom for warning in found}


def plain(state: RunState, event: Event) -> str | None:
    """An event as one line of a log; None for those that a log does not need."""
    match event:
        case Phase():
            return _one_line(f"{event.name}: {event.detail}" if event.detail else event.name)
        case RewardModelDone():
            return (
                f"reward model: {percent(event.accuracy, 1)} of {plural(event.held_out, 'held-out pair')} in the right "
                f"order, margin {number(event.margin)} nats, after {plural(event.steps, 'step')}"
            )
        case StepDone():
            return _plain_step(state, event)
        case EvaluationDone():
            majority = f", maj@{event.k} {percent(event.maj_at_k, 1)}" if event.maj_at_k is not None else ""
            left_out = "".join(f", {n} left out ({reason})" for reason, n in event.left_out.items())
            what = "sampled training tasks" if event.name == SAMPLE else f"held-out {event.name}"
            return f"{what}: pass@1 {percent(event.pass_at_1, 1)}{majority} of {event.n} tasks{left_out}"
        case CurationDone():
            dropped = ", ".join(f"{n} {reason}" for reason, n in sorted(event.dropped.items())) or "none"
            mixed = f"; {event.mixed} from elsewhere mixed in" if event.mixed else ""
            return f"curation: {event.kept} of {event.sampled} completions kept; dropped: {dropped}{mixed}"
        case EvaluationMissing():
            return _one_line(f"held-out {event.name}: no result: {event.reason}")
        case WriteFailed(reason=""):
            return f"{event.what} can be written again"
        case Restart():
            return _one_line(f"restarted {event.member}: {event.reason}")
        case Recovered():
            return _one_line(
                f"recovered: {event.role} works again {duration(event.recovery_seconds)} after {event.member} "
                f"{FAULTS.get(event.fault, event.fault)}"
            )
        case FirstSeen():
            return _one_line(f"first {event.what}: step {event.step}, task {event.sample.task_key}")
        case Unresponsive():
            return _one_line(f"{event.member} is {event.state}: {event.detail}")
        case _:
            return None


def _one_line(text: str) -> str:
    return visible(" ".join(text.split()))


def _plain_step(state: RunState, event: StepDone) -> str:
    ages = [age for age, count in event.staleness.items() if count]
    parts = [
        f"step {event.step}/{state.info.total_steps}",
        f"reward {number(event.statistics.get(names.REWARD, event.statistics.get(names.TRAINED_REWARD)))}",
        f"held-out {_accuracy(state)}",
        f"staleness <= {max(ages) if ages else 0}",
        f"generated {number(state.recent_rate('generation'))} tokens/s",
        f"trained {number(state.recent_rate('learning'))} tokens/s",
        f"entropy {number(event.statistics.get(names.ENTROPY))}",
        duration(event.step_seconds),
    ]
    return "  ".join(parts)


def page(state: RunState) -> RenderableType:
    """The live page: at most 24 lines of 78 columns."""
    columns = Table.grid(padding=(0, 3))
    columns.add_column(width=36)
    columns.add_column(width=39)
    columns.add_row(_staleness(state), _progress(state))
    return Group(_title(state), _bar(state), Text(), columns, Text(), _pools(state), _flow(state), *_alerts(state))


def _title(state: RunState) -> RenderableType:
    line = Table.grid(expand=False)
    line.add_column(width=WIDTH - 34, no_wrap=True)
    line.add_column(width=34, justify="right", no_wrap=True)
    name = Text.assemble(("leeway ", "bold"), visible(state.info.recipe), (f"  seed {state.info.seed}", "dim"))
    line.add_row(name, Text.assemble(visible(state.phase.name), "  ", (duration(state.seconds), "bold")))
    return line


def _bar(state: RunState) -> RenderableType:
    total, line = max(1, state.info.total_steps), Table.grid(padding=(0, 1))
    line.add_column(width=18, no_wrap=True)
    line.add_column(width=34)
    line.add_column(width=24, justify="right", no_wrap=True)
    bar = ProgressBar(total=total, completed=min(state.step, total), width=34)
    line.add_row(f"step {state.step} of {state.info.total_steps}", bar, Text(_left(state), "dim"))
    return line


def _left(state: RunState) -> str:
    """How long the remaining steps take at the pace of the last ones; before there is a pace, what is being done."""
    ends = list(state.step_seconds)[-20:]
    if state.phase.name != "training" or len(ends) < 5:
        return visible(state.phase.detail)[:24]
    pace = (ends[-1].seconds - ends[0].seconds) / max(1, ends[-1].step - ends[0].step)
    return f"about {duration(pace * max(0, state.info.total_steps - state.step))} left"


def _staleness(state: RunState) -> RenderableType:
    table, total = _rows(), state.trained_tokens
    bound = state.info.max_staleness
    table.add_row(Text("staleness", "bold"), Text(f"of trained tokens, bound {bound}", "dim"))
    last = min(max([bound, *state.staleness]), AGES - 1)
    for age in range(last + 1):
        older = age == last and max([bound, *state.staleness]) > last
        count = sum(n for a, n in state.staleness.items() if a == age or (older and a > age))
        share = count / total if total else 0.0
        table.add_row(
            f"{age}{'+' if older else ''}", Text(f"{_block(share, 18)} {percent(share)}", "red" if age > bound else "")
        )
    return table


def _progress(state: RunState) -> RenderableType:
    table, shown = _rows(16), state.statistics
    table.add_row(Text("held-out", "bold"), Text(_accuracy(state), "bold"))
    for label, name, text in (
        ("reward", names.REWARD, number),
        ("entropy", names.ENTROPY, number),
        ("mixed groups", names.MIXED_GROUPS, percent),
        ("response length", names.RESPONSE_LENGTH, number),
    ):
        table.add_row(label, _trend(shown.get(name), text))
    table.add_row("generated/s", f"{number(state.recent_rate('generation'))} tokens")
    table.add_row("trained/s", f"{number(state.recent_rate('learning'))} tokens")
    return table


def _rows(width: int = 9) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(width=width, no_wrap=True)
    table.add_column(no_wrap=True)
    return table


def _trend(series: Series | None, text: Callable[[float], str]) -> Text:
    if series is None or not len(series):
        return Text(NONE, "dim")
    return Text.assemble(f"{text(series.last()[0]):<13}", (spark(series.last(8)), "cyan"))


def _pools(state: RunState) -> RenderableType:
    table = _rows(10)
    table.add_column(no_wrap=True, width=38, overflow="ellipsis")
    table.add_row(Text("pool", "bold"), Text("busy now", "dim"), Text("waits for", "dim"))
    busy, waits = (state.tick.busy, state.tick.waits) if state.tick else ({}, {})
    for role, colour in ROLES.items():
        if role in OPTIONAL_ROLES and role not in busy:
            continue
        share = busy.get(role)
        bar = Text.assemble((f"{_block(share or 0.0, 18)}", colour), f" {percent(share):>5}")
        table.add_row(role, bar, Text(visible(waits.get(role, "")), "dim"))
    return table


def _flow(state: RunState) -> RenderableType:
    queues, groups = state.tick.queues if state.tick else {}, state.groups
    waiting = "  ".join(f"{name} {depth}" for name, depth in queues.items()) or NONE
    dropped = ", ".join(f"{reason} {count}" for reason, count in groups.dropped.items() if count) or "none"
    trained = groups.trained + groups.committed
    restarts = f"  {plural(state.restarts, 'restart')}" if state.restarts else ""
    table = _rows(10)
    table.add_row("queues", _fit(waiting))
    table.add_row("groups", _fit(f"issued {groups.issued}  trained {trained}  dropped {dropped}{restarts}"))
    return table


def _fit(text: str) -> Text:
    line = Text(visible(text))
    line.truncate(WIDTH - 12, overflow="ellipsis")
    return line


def _alerts(state: RunState) -> list[Text]:
    lines = [Text(f"! {warning.text}", "yellow") for warning in warnings(state)[:SHOWN_WARNINGS]]
    for line in lines:
        line.truncate(WIDTH, overflow="ellipsis")
    return lines


def _accuracy(state: RunState) -> str:
    before, latest = state.evaluation("before"), state.evaluations[-1] if state.evaluations else None
    if latest is None:
        return NONE
    if before is None or latest is before:
        return f"{percent(latest.pass_at_1)} ({latest.name})"
    return f"{percent(before.pass_at_1)} -> {percent(latest.pass_at_1)} ({latest.name})"


def _block(share: float, width: int) -> str:
    """A horizontal bar in eighths of a character, padded to `width`."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (BLOCKS[rest] if rest else "")).ljust(width)


def spark(values: list[float]) -> str:
    """A line of small bars, from the smallest to the largest value."""
    low, high = min(values), max(values)
    if high <= low:
        return SPARKS[3] * len(values)
    return "".join(SPARKS[round((value - low) / (high - low) * (len(SPARKS) - 1))] for value in values)
