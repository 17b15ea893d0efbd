"""`leeway status`: how a run that is alive is doing, from its controller's page."""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from actors.commands.page import UNANSWERED, asked, newest
from actors.errors import RecipeError, RunError

#: How often a run that is watched is asked (s).
WATCH_SECONDS = 2.0


def status(
    run: Annotated[
        str | None, typer.Argument(help="Run folder, or the URL of its status page; default: the newest in runs/.")
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it again every two seconds, until the run ends.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what the controller says, as JSON.")] = False,
) -> None:
    """Show what a run does and what it waits for: pools, versions, queues, stuck calls, faults and recoveries.

    Where `network.http_token` is for everything, it needs the run's token, as `leeway scale` does.

    The exit code is 0 for a run that is alive or has finished, and 1 for one that has failed, was interrupted, or
    cannot be reached.
    """
    from rich.console import Console
    from rich.live import Live

    from actors.report.live import live
    from sandbox.terminal import lasting

    console, where = lasting(Console()), run or str(newest(Path("runs")))
    if not watch:
        told = _told(where)
        if told is None:
            console.print(_ended(where), highlight=False, markup=False, soft_wrap=True)
        elif as_json:
            typer.echo(json.dumps(told, indent=2))
        else:
            console.print(live(told))
        return
    with Live(console=console, auto_refresh=False) as screen:
        while (told := _told(where)) is not None:
            screen.update(live(told), refresh=True)
            time.sleep(WATCH_SECONDS)
    console.print(_ended(where), highlight=False, markup=False, soft_wrap=True)


def _told(where: str) -> dict[str, Any] | None:
    """What the controller of a run says; None where the run in this folder is over.

    Raises:
        RecipeError: there is no such run.
        RunError: the controller does not answer.
    """
    if where.startswith(("http://", "https://")):
        return _asked(where, None, f"no controller answers at {where}")
    from actors.config.loading import RECIPE
    from actors.control.whereabouts import whereabouts

    folder = Path(where).absolute()
    if not (folder / RECIPE).exists():
        raise RecipeError(f"{where}: not a run folder (it has no {RECIPE}), and no URL")
    found = whereabouts(folder)
    if found is None:
        return None
    return _asked(
        found.url,
        folder,
        f"{where}: the controller at {found.url} does not answer: it is being replaced, hangs, is on a machine that "
        f"this one does not reach, or the run was killed; see {folder}/logs/controller.log",
    )


def _asked(url: str, folder: Path | None, refusal: str) -> dict[str, Any]:
    from actors.transport.keys import read_token

    try:
        told: dict[str, Any] = asked(f"{url.rstrip('/')}/status", read_token(folder))
    except UNANSWERED as error:
        reason = getattr(error, "reason", None) or error
        raise RunError(f"{refusal} ({reason})") from error
    return told


def _ended(where: str) -> str:
    """One line about a run that is over.

    Raises:
        RunError: it did not finish, and the line says so.
    """
    path = Path(where) / "summary.json"
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(f"{where}: this run is not alive, and has not come to a summary; see its logs/") from error
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read ({error})") from error
    outcome, reason, steps = summary.get("outcome", "over"), summary.get("reason"), summary["steps"]
    line = f"{where}: this run is over: {outcome} after {steps} steps"
    if outcome != "finished":
        raise RunError(f"{line}{f': {reason}' if reason else ''}")
    return line
