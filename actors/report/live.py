"""What `leeway status` prints: the controller's answer as a page for a terminal."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from actors.report.text import visible
from actors.report.units import NONE, duration, percent, plural

LABEL = 12
#: Lines of a list before the rest is only counted.
SHOWN = 8


def live(told: Mapping[str, Any]) -> RenderableType:
    """The page.

    Args:
        told: see `actors.control.overview.status`.
    """
    blocks = [
        _head(told),
        _pools(told),
        _flow(told),
        _list("stuck calls", [_wait(wait) for wait in told["stuck"]]),
        _list("not at work", [f"{name}: {detail}" for name, detail in told["unresponsive"].items()]),
        _list("joined", told["joined"]),
        _list("leaving", told["leaving"]),
        _list("recovering", [_open(fault) for fault in told["recovering"]]),
        _list("recovered", [_recovered(told, fault) for fault in reversed(told["recovered"])]),
        _list("warnings", [f"{warning['text']} {warning['fix']}" for warning in told["warnings"]]),
    ]
    return Group(*(block for block in blocks if block is not None))


def _head(told: Mapping[str, Any]) -> RenderableType:
    detail = f": {told['detail']}" if told["detail"] else ""
    where = f"step {told['step']} of {told['steps']}, {told['phase']}{detail}, after {duration(told['seconds'])}"
    return Text(visible(f"{told['recipe']}  {where}\n{told['folder']}"), "bold")


def _pools(told: Mapping[str, Any]) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_row(*(Text(name, "dim") for name in ("pool", "alive", "busy", "waits for")))
    for role, pool in told["pools"].items():
        alive = f"{pool['ready']} of {pool['wanted']}"
        if pool["alive"] != pool["ready"]:
            alive += f" (+{pool['alive'] - pool['ready']} coming up)"
        since = f", for {duration(pool['waits_seconds'])}" if pool["waits_seconds"] is not None else ""
        waits = f"{pool['waits_for']}{since}" if pool["waits_for"] else ""
        short = pool["ready"] < pool["wanted"]
        table.add_row(role, Text(alive, "yellow" if short else ""), percent(pool["busy"]), visible(waits))
    return table


def _flow(told: Mapping[str, Any]) -> RenderableType:
    ages, staleness, sync = told["queue_ages"], told["staleness"], told["weight_sync"]

    def queue(name: str, depth: int) -> str:
        age = ages.get(name)
        return f"{name} {depth}" + (f" (oldest {duration(age)})" if depth and age is not None else "")

    queues = "  ".join(queue(name, depth) for name, depth in told["queues"].items()) or NONE
    table = Table.grid(padding=(0, 2))
    table.add_column(width=LABEL, style="dim")
    table.add_column()
    table.add_row("queues", visible(queues))
    table.add_row("versions", visible(_versions(told["versions"])))
    oldest = "none" if staleness["last_step"] is None else str(staleness["last_step"])
    table.add_row("staleness", f"oldest token of the last step {oldest}, bound {staleness['bound']}")
    if sync is not None:
        took = (
            f"version {sync['version']} to {plural(sync['members'], 'generator')} in {duration(sync['total_seconds'])}"
        )
        table.add_row("weights", f"{took}, {duration(max(0.0, sync['ago_seconds']))} ago")
    return table


def _versions(versions: Mapping[str, Mapping[str, int | None]]) -> str:
    def one(name: str, held: Mapping[str, int | None]) -> str:
        return f"{name} none yet" if held["version"] is None else f"{name} {held['version']} (-{held['behind']})"

    ordered = sorted(versions.items(), key=lambda item: item[1]["version"] if item[1]["version"] is not None else -1)
    shown = "  ".join(one(name, held) for name, held in ordered[:SHOWN])
    return (shown or NONE) + (f"  and {len(ordered) - SHOWN} newer" if len(ordered) > SHOWN else "")


def _wait(wait: Mapping[str, Any]) -> str:
    return f"{wait['who']} waits for {wait['on']}: {wait['what']}, for {duration(wait['seconds'])}"


def _open(fault: Mapping[str, Any]) -> str:
    return f"{fault['role']}: {fault['member']} {fault['fault']} {duration(fault['seconds'])} ago"


def _recovered(told: Mapping[str, Any], fault: Mapping[str, Any]) -> str:
    ago, took = duration(max(0.0, told["seconds"] - fault["seconds"])), duration(fault["recovery_seconds"])
    return f"{fault['role']}: {fault['member']} {fault['fault']}, back after {took}, {ago} ago"


def _list(title: str, lines: Iterable[str]) -> RenderableType | None:
    lines = list(lines)
    if not lines:
        return None
    shown = [f"  {visible(line)}" for line in lines[:SHOWN]]
    if len(lines) > SHOWN:
        shown.append(f"  and {len(lines) - SHOWN} more")
    return Text.assemble((f"{title}\n", "dim"), "\n".join(shown))
