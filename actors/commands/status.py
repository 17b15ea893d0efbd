"""`leeway status`: how a run that is alive is doing, from its controller's page."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from actors.commands.page import UNANSWERED, looked, newest
from actors.errors import RecipeError, RunError

if TYPE_CHECKING:
    from rich.console import RenderableType

#: How often a run that is watched is asked (s).
WATCH_SECONDS = 2.0
#: A page of which only the address is known may be silent for so long, while its controller is replaced (s).
SILENT_SECONDS = 60.0


class AwayError(RunError):
    """The run has a controller that does not answer, or none yet."""


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
    cannot be reached. While the controller is replaced --watch goes on.
    """
    from rich.console import Console
    from rich.live import Live

    from actors.report.live import live
    from sandbox.terminal import lasting

    console, where = lasting(Console()), run or str(newest(Path("runs")))
    if watch:
        with Live(console=console, auto_refresh=False) as screen:
            follow(where, lambda page: screen.update(page, refresh=True))
    elif (told := _told(where)) is not None:
        if as_json:
            typer.echo(json.dumps(told, indent=2))
        else:
            console.print(live(told))
        return
    console.print(_ended(where), highlight=False, markup=False, soft_wrap=True)


def follow(
    where: str,
    show: Callable[["RenderableType"], None],
    silent_seconds: float = SILENT_SECONDS,
    interval_seconds: float = WATCH_SECONDS,
) -> None:
    """Show a run until it is over. A controller that does not answer, or is not there yet, is asked again for as long
    as a process has the run's lock; where that is not to be seen, for a while after its latest answer.

    Raises:
        RecipeError: there is no such run.
        RunError: the controller does not answer any more.
    """
    from rich.text import Text

    from actors.report.live import live

    heard: float | None = None
    while True:
        try:
            if (told := _told(where)) is None:
                return
            show(live(told))
            heard = time.monotonic()
        except AwayError as error:
            if not _alive(where) and (_local(where) or heard is None or time.monotonic() - heard > silent_seconds):
                raise
            show(Text(f"{error}; asking again"))
        time.sleep(interval_seconds)


def _local(where: str) -> bool:
    return not where.startswith(("http://", "https://"))


def _alive(where: str) -> bool:
    """Whether a process on a machine with this file system runs the run in a folder."""
    from actors.folder import LOCK
    from actors.report.writer import is_locked

    return _local(where) and is_locked(Path(where) / LOCK)


def _told(where: str) -> dict[str, Any] | None:
    """What the controller of a run says; None where the run in this folder is over.

    Raises:
        RecipeError: there is no such run.
        AwayError: the controller does not answer, or is not there yet.
    """
    if not _local(where):
        return _asked(where, None, f"no controller answers at {where}")
    from actors.config.loading import RECIPE
    from actors.control.whereabouts import whereabouts

    folder = Path(where).absolute()
    if not (folder / RECIPE).exists():
        raise RecipeError(f"{where}: not a run folder (it has no {RECIPE}), and no URL")
    found = whereabouts(folder)
    if found is None and _alive(where):
        raise AwayError(f"{where}: this run is alive, and its controller is not there: it begins or ends just now")
    if found is None:
        return None
    return _asked(
        found.url,
        folder,
        f"{where}: the controller at {found.url} does not answer: it is being replaced, hangs, is on a machine that "
        f"this one does not reach, or the run was killed; see {folder}/logs/controller.log",
        found.instance,
    )


def _asked(url: str, folder: Path | None, refusal: str, instance: str = "") -> dict[str, Any]:
    try:
        return looked(url, folder, instance)
    except UNANSWERED as error:
        reason = getattr(error, "reason", None) or error
        raise AwayError(f"{refusal} ({reason})") from error


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
